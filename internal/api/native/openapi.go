package native

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/gin-gonic/gin/binding"
)

// document is the OpenAPI 3.1 description of this API, written by hand. Tests
// compare it with the routes, the wire types and real answers.
//
//go:embed openapi.yaml
var document []byte

// documentJSON gives the description as JSON. gin brings the YAML reader.
func documentJSON() ([]byte, error) {
	var d map[string]any
	if err := binding.YAML.BindBody(document, &d); err != nil {
		return nil, fmt.Errorf("read openapi.yaml: %w", err)
	}
	return json.Marshal(d)
}

func (a *API) openapiYAML(c *gin.Context) error {
	c.Data(http.StatusOK, "application/yaml", document)
	return nil
}

func (a *API) openapiJSON(c *gin.Context) error {
	d, err := a.document()
	if err != nil {
		return err
	}
	c.Data(http.StatusOK, "application/json", d)
	return nil
}

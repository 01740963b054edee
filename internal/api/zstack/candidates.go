package zstack

import (
	"math"
	"net/url"
	"strconv"

	"github.com/gin-gonic/gin"
)

// candidates serves GetNoTriggerSchedulerJobs: all jobs that are bound to no
// trigger themselves; what their group is bound to does not count. It is no Query
// call: whatever a client adds to the address means nothing, and there is no limit.
func (a *API) candidates(c *gin.Context) {
	c.Request.URL.RawQuery = url.Values{"limit": {strconv.Itoa(math.MaxInt32)}}.Encode()
	a.query(jobs, condition{field: "triggersUuid", op: isNull})(c)
}

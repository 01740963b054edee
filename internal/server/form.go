package server

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// A form writes an error in one dialect. The forms here are what APIs without
// words of their own get.
type form func(c *gin.Context, status int, text string)

// zstackForm writes ZStack's error object.
func zstackForm(c *gin.Context, status int, text string) {
	code, description := zstackCode(status)
	c.JSON(status, gin.H{"error": gin.H{"code": code, "description": description, "details": text}})
}

// zstackCode gives the code, and its text, that ZStack has for what the server
// may have to say.
func zstackCode(status int) (code, description string) {
	switch {
	case status == http.StatusNotFound:
		return "SYS.1003", "A resource can not be found"
	case status < http.StatusInternalServerError:
		return "SYS.1007", "One or more API argument is invalid"
	}
	return "SYS.1000", "An internal error happened in system"
}

// problemForm writes problem details, RFC 9457.
func problemForm(c *gin.Context, status int, text string) {
	c.Header("Content-Type", "application/problem+json")
	c.JSON(status, gin.H{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": text})
}

func plainForm(c *gin.Context, status int, text string) {
	c.String(status, "%s\n", text)
}

package zstack

import (
	"strings"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// meta reads what every create call has.
func (in *input) meta() core.Meta {
	m := core.Meta{
		UUID: in.text("resourceUuid"), Dialect: core.ZStack, Name: in.mustText("name"), Description: in.text("description"),
	}
	if m.UUID != "" && !id.ValidResource(m.UUID) {
		in.fail(badArgument("resourceUuid[%s] is not a valid uuid: it must be a uuid of version 1 to 5 in 32 lower-case hexadecimal digits", excerpt(m.UUID)))
	}
	return m
}

func (in *input) checkUUID(field, u string) {
	if !id.Valid(u) {
		in.fail(badArgument("field[%s] of message[API%sMsg] is not a valid uuid: [%s]", field, in.call, excerpt(u)))
	}
}

// resource reads a uuid from the path that must name a resource.
func (in *input) resource(param string, of func(field, uuid string) ref, field string) ref {
	r := of(field, strings.TrimSpace(in.path(param)))
	in.checkRef(r)
	return r
}

// checkRef refuses a uuid that can name nothing. ZStack looks such a uuid up and
// says that there is no such resource; a placeholder that was copied from its
// documentation gets the text that helps.
func (in *input) checkRef(r ref) {
	switch {
	case id.Valid(r.uuid):
	case placeholder(r.uuid):
		in.checkUUID(r.field, r.uuid)
	default:
		r.uuid = excerpt(r.uuid)
		in.fail(r.missing())
	}
}

// doomed reads the uuid of what a delete call is to delete. Both modes of deletion
// are the same here: nothing that hangs together with it forbids a deletion.
func (in *input) doomed(of func(field, uuid string) ref) string {
	in.choice("deleteMode", "Permissive", "Enforcing")
	return in.resource("uuid", of, "uuid").uuid
}

// placeholder reports whether s is a placeholder such as {uuid} or <uuid>.
func placeholder(s string) bool { return strings.ContainsAny(s, "{}<>") }

// jobList reads the uuids of jobs from a list field or, in the form of ZStack's
// older documentation, from the path: [u1,u2].
func (in *input) jobList(field string) []string {
	list := in.texts(field)
	for _, u := range strings.Split(strings.Trim(in.path("uuids"), "[]"), ",") {
		if u = strings.Trim(u, " \"'"); u != "" {
			list = append(list, u)
		}
	}
	list = distinct(list)
	switch {
	case len(list) > 0:
	case in.lookup(field) == nil:
		in.mandatory(field)
	default:
		in.fail(badArgument("field[%s] of message[API%sMsg] must be a nonempty list", field, in.call))
	}
	in.checkJobs(field, list)
	return list
}

func (in *input) checkJobs(field string, uuids []string) {
	for _, u := range uuids {
		in.checkRef(jobRef(field, u))
	}
}

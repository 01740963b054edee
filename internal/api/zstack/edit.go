package zstack

import "github.com/takt-dev/takt/internal/core"

// An edit is what the update calls of groups, jobs and triggers have in common. A
// field that is not given stays as it is: nil.
type edit struct {
	name, description *string
	parameters        map[string]string
}

func (in *input) edit() edit {
	e := edit{name: in.optional("name"), description: in.optional("description")}
	if e.name != nil && *e.name == "" {
		in.fail(badArgument("field[name] of message[API%sMsg] cannot be an empty string", in.call))
	}
	return e
}

// jobEdit is edit for what has parameters. They replace those that are there.
func (in *input) jobEdit() edit {
	e := in.edit()
	if in.lookup("parameters") != nil {
		e.parameters = in.mapping("parameters")
	}
	return e
}

func (e edit) meta(m *core.Meta) {
	if e.name != nil {
		m.Name = *e.name
	}
	if e.description != nil {
		m.Description = *e.description
	}
}

// of gives the parameters after the edit, of a job or group that has stored.
func (e edit) of(jobType string, stored map[string]string, types jobTypes) (map[string]string, error) {
	if e.parameters == nil {
		return stored, nil
	}
	return types.kept(jobType, e.parameters, stored)
}

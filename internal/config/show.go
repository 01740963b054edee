package config

import (
	"fmt"
	"io"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// stars stand for a secret.
const stars = "***"

// masked returns text fit to be shown: by the secret tag of its setting.
func masked(secret, text string) string {
	switch {
	case text == "" || secret == "":
		return text
	case secret == "url":
		urls := strings.Split(text, ",")
		for i, u := range urls {
			urls[i] = maskedURL(u)
		}
		return strings.Join(urls, ",")
	default:
		return stars
	}
}

// maskedURL hides what stands between scheme and host, and a query that names a
// password.
func maskedURL(u string) string {
	scheme, rest, ok := strings.Cut(u, "://")
	if !ok {
		scheme, rest = "", u
	} else {
		scheme += "://"
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = stars + rest[at:]
	}
	if head, query, ok := strings.Cut(rest, "?"); ok && strings.Contains(strings.ToLower(query), "password") {
		rest = head + "?" + stars
	}
	return scheme + rest
}

// writeYAML prints the settings in effect as a file that could be read again,
// but for the secrets.
func writeYAML(w io.Writer, fields map[string]*field) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range inOrder(fields) {
		section := root
		names := strings.Split(f.path, ".")
		for _, name := range names[:len(names)-1] {
			section = subsection(section, name)
		}
		value := new(yaml.Node)
		if err := value.Encode(shown(f)); err != nil {
			return fmt.Errorf("print %s: %w", f.path, err)
		}
		section.Content = append(section.Content, text(names[len(names)-1]), value)
	}
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	return encoder.Encode(root)
}

// shown returns the value of a setting in the form YAML shows best.
func shown(f *field) any {
	switch v := f.value.Interface().(type) {
	case string:
		return masked(f.secret, v)
	case []string:
		list := []string{}
		for _, item := range v {
			list = append(list, masked(f.secret, item))
		}
		return list
	case time.Duration, Bytes:
		return textOf(f.value)
	default:
		return v
	}
}

// subsection returns the mapping under name, making it where it is missing.
func subsection(of *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(of.Content); i += 2 {
		if of.Content[i].Value == name {
			return of.Content[i+1]
		}
	}
	section := &yaml.Node{Kind: yaml.MappingNode}
	of.Content = append(of.Content, text(name), section)
	return section
}

func text(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Value: s}
}

// writeHelp lists the flags with their variables and defaults.
func writeHelp(w io.Writer, name string, fields map[string]*field, defaults map[string]string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s [flags]\n\nEach setting is a flag, an environment variable, and a key of the YAML file:\n", name)
	b.WriteString("worker.http.timeout is --worker-http-timeout and TAKT_WORKER_HTTP_TIMEOUT.\n")
	b.WriteString("Flags win over the environment, and that over the file. A secret can also come\n")
	b.WriteString("from a file: TAKT_API_ADMIN_PASSWORD_FILE=/run/secrets/admin.\n\n")
	writeFlag(&b, "config", "TAKT_CONFIG", "YAML file with settings", "")
	writeFlag(&b, "print-config", "", "print the settings in effect, without secrets, and exit", "")
	writeFlag(&b, "version", "", "print the version and exit", "")
	writeFlag(&b, "help", "", "print this text and exit", "")
	for _, f := range inOrder(fields) {
		preset, ok := defaults[f.path]
		if !ok {
			preset = f.preset
		}
		writeFlag(&b, f.flag(), f.env(), f.help, preset)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeFlag(b *strings.Builder, flag, env, help, preset string) {
	fmt.Fprintf(b, "  --%-32s %s\n", flag, help)
	var notes []string
	if env != "" {
		notes = append(notes, env)
	}
	if preset != "" {
		notes = append(notes, "default "+preset)
	}
	if len(notes) > 0 {
		fmt.Fprintf(b, "  %34s %s\n", "", strings.Join(notes, ", "))
	}
}

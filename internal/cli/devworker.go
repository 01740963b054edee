package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/takt-dev/takt/internal/config"
)

// What a worker may run and call is empty by default. For trying out, dev
// allows one harmless program and one address of its own, through the same
// configuration that production uses.

// workerFile is written into the data directory at each start.
const workerFile = "worker.yaml"

// developWorker writes the development worker's configuration, and adds it to what
// the user's own allows.
func developWorker(cfg *config.Dev, target string) (command string, err error) {
	echo, err := exec.LookPath("echo")
	if err != nil {
		return "", fmt.Errorf("find a harmless command for the development worker: %w", err)
	}
	address := target[len("http://"):]
	address = address[:len(address)-len("/hello")]
	var file struct {
		Worker struct {
			HTTP struct {
				Allow []string `yaml:"allow"`
			} `yaml:"http"`
			Shell struct {
				Allow []config.Command `yaml:"allow"`
			} `yaml:"shell"`
		} `yaml:"worker"`
	}
	file.Worker.HTTP.Allow = []string{address}
	file.Worker.Shell.Allow = []config.Command{{Path: echo, Args: []string{"..."}}}
	body, err := yaml.Marshal(file)
	if err != nil {
		return "", err
	}
	const head = "# Written by takt dev at each start: what the development worker may do.\n# The address is takt dev's own and changes.\n# To allow more, name it in a file of your own and start with --config. Production allows nothing by default.\n"
	path := filepath.Join(cfg.Dir, workerFile)
	if err := os.WriteFile(path, append([]byte(head), body...), 0o600); err != nil {
		return "", fmt.Errorf("write the development worker's configuration: %w", err)
	}
	dev, _, err := config.Load[config.Worker]([]string{"--config", path}, nil, io.Discard)
	if err != nil {
		return "", err
	}
	cfg.Worker.HTTP.Allow = append(cfg.Worker.HTTP.Allow, dev.HTTP.Allow...)
	cfg.Worker.Shell.Allow = append(cfg.Worker.Shell.Allow, dev.Shell.Allow...)
	return echo, nil
}

// serveTarget serves an address for httpRequest jobs to call, until ctx ends.
func serveTarget(ctx context.Context) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen for the development target: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from takt dev, %s\n", r.Method)
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = srv.Serve(l) }()
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	return "http://" + l.Addr().String() + "/hello", nil
}

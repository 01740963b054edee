package cbttest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"testing"
)

// Mute serves the monitor of a process that hangs: it greets, which a thread of its own
// does, and carries out no command. heard gets the first name of a command that is left
// without an answer. It is gone when the test ends, or with stop.
func Mute(t testing.TB, path string) (heard <-chan string, stop func()) {
	t.Helper()
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatalf("listen on %s: %v", path, err)
	}
	names := make(chan string, 1)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go keepSilent(conn, names)
		}
	}()
	stop = func() { _ = listener.Close() } // it may be closed already
	t.Cleanup(stop)
	return names, stop
}

func keepSilent(conn net.Conn, heard chan<- string) {
	defer func() { _ = conn.Close() }() // the client has left
	fmt.Fprintln(conn, `{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}}`)
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		var command struct {
			Execute string
			ID      string
		}
		if json.Unmarshal(lines.Bytes(), &command) != nil {
			return
		}
		if command.Execute == "qmp_capabilities" {
			fmt.Fprintf(conn, `{"return": {}, "id": %q}`+"\n", command.ID)
			continue
		}
		select {
		case heard <- command.Execute:
		default:
		}
	}
}

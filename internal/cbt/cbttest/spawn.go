package cbttest

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/takt-dev/takt/internal/testenv"
)

// Spawn starts a program that runs until the test ends, however it ends.
func Spawn(t testing.TB, name string, arguments ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, arguments...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = childAttr()
	ended := make(chan struct{})
	if err := start(cmd, ended); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	})
	return cmd
}

// start starts a program, and closes ended when it has ended, killed or not. To the
// kernel its parent is the thread that forked: it is kept, since with it would go the
// program.
func start(cmd *exec.Cmd, ended chan struct{}) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(ended)
		}
	}()
	return <-started
}

// Await returns when somebody listens at an address.
func Await(t testing.TB, network, address string) {
	t.Helper()
	testenv.Eventually(t, startTimeout, func() error {
		conn, err := net.Dial(network, address)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
}

// Port is a TCP port of 127.0.0.1 that was free a moment ago.
func Port(t testing.TB) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port
}

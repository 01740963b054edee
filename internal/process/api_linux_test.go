package process

import (
	"log/slog"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/testenv"
)

// An api process that cannot take requests any more ends and says why: one that lived
// on would play its roles for ever, and nobody would start it anew.
func TestAPIEndsWithItsListener(t *testing.T) {
	t.Parallel()
	cfg := config.Default[config.API]()
	cfg.Redis.URL, cfg.NATS.URLs = testenv.Redis(t).URL, []string{testenv.NATS(t).URL}
	cfg.APISettings.Listen, cfg.Partitions = "127.0.0.1:0", 1
	started, ended := make(chan net.Addr, 1), make(chan error, 1)
	go func() {
		ended <- API(t.Context(), cfg, slog.New(slog.DiscardHandler), APIOptions{Started: func(s Started) { started <- s.Addr }})
	}()
	select {
	case at := <-started:
		breakListener(t, at)
	case err := <-ended:
		t.Fatalf("the process ended before it served: %v", err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the process ended without an error")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the process lives on without its listener")
	}
}

// breakListener makes accept fail on the socket of this process that listens at an
// address.
func breakListener(t *testing.T, at net.Addr) {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		fd, err := strconv.Atoi(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		listens, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
		if err != nil || listens == 0 {
			continue
		}
		if its, err := syscall.Getsockname(fd); err == nil && portOf(its) == at.(*net.TCPAddr).Port {
			if err := syscall.Shutdown(fd, syscall.SHUT_RDWR); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no socket of this process listens at %s", at)
}

func portOf(a syscall.Sockaddr) int {
	if tcp, ok := a.(*syscall.SockaddrInet4); ok {
		return tcp.Port
	}
	return 0
}

package nbd

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
)

// ErrInUse says that a reader is connected to the export.
var ErrInUse = errors.New("nbd: the export has a reader")

// Served is an export of a Server, read-only.
type Served struct {
	Size uint64 // bytes
	Data io.ReaderAt
	// Contexts by name. Walk calls each, by rising offset, with what it knows about
	// [offset, offset+length); what it leaves out has the flags Default.
	Contexts map[string]Context
}

// A Context is one layer of facts about an export.
type Context struct {
	Default uint32
	Walk    func(offset, length uint64, each func(Extent) error) error
}

// A Server serves exports, read-only, to whoever knows their names: it has no list
// of them for anybody. It runs from Serve to Close.
type Server struct {
	listener net.Listener
	tls      *tls.Config
	running  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	exports map[string]*entry
	conns   map[net.Conn]bool
	closed  bool
}

type entry struct {
	Served
	readers map[net.Conn]bool
}

// Serve takes connections of a listener. config nil is for unix sockets.
func Serve(listener net.Listener, config *tls.Config) *Server {
	s := &Server{listener: listener, tls: config, exports: map[string]*entry{}, conns: map[net.Conn]bool{}}
	s.running.Go(s.accept)
	return s
}

// Add makes an export known.
func (s *Server) Add(name string, served Served) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exports[name] = &entry{Served: served, readers: map[net.Conn]bool{}}
}

// Remove makes exports unknown. ErrInUse: one is being read, and force is not set,
// which cuts readers off; none is removed then. What is not there is removed already.
func (s *Server) Remove(force bool, names ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		if e := s.exports[name]; e != nil && len(e.readers) > 0 && !force {
			return ErrInUse
		}
	}
	for _, name := range names {
		if e := s.exports[name]; e != nil {
			for conn := range e.readers {
				conn.Close()
			}
			delete(s.exports, name)
		}
	}
	return nil
}

// Close stops listening, cuts readers off and waits until all is quiet.
func (s *Server) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for conn := range s.conns {
		conn.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
	return err
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		if !s.admit(conn) {
			conn.Close()
			return
		}
		s.running.Go(func() {
			defer s.dismiss(conn)
			newPeer(s, conn).serve()
		})
	}
}

func (s *Server) admit(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[conn] = true
	return !s.closed
}

func (s *Server) dismiss(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	conn.Close()
	delete(s.conns, conn)
	for _, e := range s.exports {
		delete(e.readers, conn)
	}
}

func (s *Server) lookup(name string) (Served, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.exports[name]
	if e == nil {
		return Served{}, false
	}
	return e.Served, true
}

// enter notes a reader of an export.
func (s *Server) enter(name string, conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.exports[name]
	if e == nil {
		return false
	}
	e.readers[conn] = true
	return true
}

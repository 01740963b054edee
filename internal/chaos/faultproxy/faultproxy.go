// Package faultproxy forwards TCP connections to one server until it is told to
// cut them, in one of the two ways in which networks break:
//
//	Hole    nothing passes and nobody is told. Open connections stay open, new
//	        ones are taken and hang. After Heal what was on its way arrives, as
//	        it would by TCP's own repeats.
//	Reset   open connections are reset, and so is each new one.
package faultproxy

import (
	"fmt"
	"net"
	"sync"
)

// A Cut says how a proxy breaks its connections.
type Cut string

// The kinds of cut.
const (
	Hole  Cut = "hole"
	Reset Cut = "reset"
)

// A Proxy listens on the loopback interface and forwards to its target.
type Proxy struct {
	listener net.Listener
	target   string

	mu     sync.Mutex
	cut    Cut           // "" while whole
	whole  chan struct{} // closed unless a hole is open
	closed chan struct{}
	links  map[*link]struct{}
	wg     sync.WaitGroup
}

// Listen starts a proxy to target, host:port, on a port of its own.
func Listen(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for connections to %s: %w", target, err)
	}
	p := &Proxy{listener: l, target: target, whole: make(chan struct{}), closed: make(chan struct{}), links: map[*link]struct{}{}}
	close(p.whole)
	p.wg.Go(p.accept)
	return p, nil
}

// Addr is where clients connect.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut breaks all connections, present and to come, until Heal.
func (p *Proxy) Cut(how Cut) {
	p.Heal()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = how
	switch how {
	case Hole:
		p.whole = make(chan struct{})
	case Reset:
		for l := range p.links {
			l.reset()
		}
	}
}

// Heal lets everything pass again.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut == Hole {
		close(p.whole)
	}
	p.cut = ""
}

// Close ends the proxy and all its connections.
func (p *Proxy) Close() {
	p.Heal()
	close(p.closed)
	p.listener.Close()
	p.mu.Lock()
	for l := range p.links {
		l.reset()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(client.(*net.TCPConn)) })
	}
}

// pass waits until no hole is open. It reports false once the proxy is closed.
func (p *Proxy) pass() bool {
	p.mu.Lock()
	whole := p.whole
	p.mu.Unlock()
	select {
	case <-whole:
		return true
	case <-p.closed:
		return false
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	l := &link{client: client}
	if !p.add(l) {
		l.reset()
		return
	}
	defer p.remove(l)
	if !p.pass() {
		l.reset()
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		l.reset()
		return
	}
	l.join(server.(*net.TCPConn))
	var wg sync.WaitGroup
	wg.Go(func() { p.pump(l.server, l.client) })
	wg.Go(func() { p.pump(l.client, l.server) })
	wg.Wait()
}

// pump forwards one direction. What ends it ends the whole connection: neither
// Redis nor NATS uses half-open ones.
func (p *Proxy) pump(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if !p.pass() {
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// add keeps a connection, so that it can be reset, unless that is its fate now.
func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut == Reset {
		return false
	}
	p.links[l] = struct{}{}
	return true
}

func (p *Proxy) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// A link is a client's connection and the one to the server that belongs to it.
type link struct {
	client *net.TCPConn

	mu     sync.Mutex
	server *net.TCPConn // nil before it is dialed
	dead   bool
}

func (l *link) join(server *net.TCPConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.server = server
	if l.dead {
		_ = server.Close() // nothing has passed yet
	}
}

// reset ends both connections as a crashed host would. The server's side is reset
// too: a client behind a broken network leaves it no farewell.
func (l *link) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	for _, c := range []*net.TCPConn{l.client, l.server} {
		if c != nil {
			_ = c.SetLinger(0) // an already closed connection needs none
			_ = c.Close()
		}
	}
}

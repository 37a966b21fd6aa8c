// SPDX-License-Identifier: Apache-2.0

// Package winbind is the door of Samba: winbindd's two pipes, so that an
// unmodified smbd, nss_winbind, wbinfo and ntlm_auth find on this machine what
// they are made for.
//
// Anybody may ask the public pipe who is who, and try a password. The privileged
// pipe lies in a directory that only root and one group may enter; there alone a
// challenge-response or a ticket's PAC is taken. Names and numbers come from the
// rows, without the network; whoever wants in is package login's to decide.
//
// The package opens no socket, asks nobody upstream, gives no number to anybody,
// and never changes a row because of what a client said. Commands that would
// (allocate an id, change a password or the machine's account, cache a
// credential) are refused.
package winbind

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/latency"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

// Directory answers who somebody is; *resolve.Resolver does.
type Directory interface {
	Version() resolve.Version
	Resolve(ctx context.Context, questions []resolve.Question) ([]resolve.Answer, error)
	UserGroups(ctx context.Context, key identity.Key, after identity.RowID, limit int) (resolve.RowPage, error)
	List(ctx context.Context, kind identity.Kind, q resolve.Query) (resolve.Page, error)
}

// ID is a uid or a gid. The zero Kind is none.
type ID struct {
	Kind   identity.Kind
	Number uint32
}

// IDs turns SIDs into numbers and back, those of rows, BUILTIN and well-known
// groups alike. Each answers its items in their order, out of one look.
type IDs interface {
	// IDsOfSIDs: for ACLs, so former SIDs and those of sIDHistory count as well.
	IDsOfSIDs(ctx context.Context, sids []identity.SID) ([]ID, error)
	// SIDsOfIDs: the zero SID is none.
	SIDsOfIDs(ctx context.Context, ids []ID) ([]identity.SID, error)
	// GIDs are all gids of a user, the primary one included.
	GIDs(ctx context.Context, user identity.RowID) ([]identity.GID, error)
}

// Login decides; *login.Login does.
type Login interface {
	Authenticate(ctx context.Context, req login.Request, password secret.Bytes) (*login.Result, error)
	VerifyNTLM(ctx context.Context, req login.NTLMRequest) (*login.NTLMResult, error)
	AcceptPAC(ctx context.Context, req login.Request, raw []byte) (*login.PACResult, error)
}

// DC is a domain controller.
type DC struct {
	Host             string // FQDN
	Computer         string // NetBIOS name
	Addr             netip.Addr
	Site, ClientSite string
	Forest           string
	DomainGUID       string
	Flags            uint32 // MS-NRPC 2.2.1.2.1, as DsGetDcName gives them
}

// Upstream knows the domain controllers.
type Upstream interface {
	// DC returns the one that is in use; false: none answered lately.
	DC() (DC, bool)
	// Check proves that the machine's account is good. It returns the host name of
	// the domain controller that said so.
	Check(ctx context.Context) (dc string, err error)
}

// Membership is what this machine is in.
type Membership struct {
	Domain   identity.Domain
	Computer string // this machine's NetBIOS name
}

// Samba is the release that the machine has.
type Samba struct {
	Release   string // "4.17.12-Debian"
	Interface wire.Version
}

// Config is what a Server needs. All but the durations is required.
type Config struct {
	Log       *slog.Logger
	Directory Directory
	IDs       IDs
	Login     Login
	// Upstream is nil while nobody can be asked.
	Upstream func() Upstream
	// Membership is nil while the machine is in no domain.
	Membership func() *Membership
	// Enumerate says whether GETPWENT and GETGRENT list anybody.
	Enumerate func() bool
	// Samba says which release is served. An error is told in the log, and
	// nobody is served.
	Samba func(context.Context) (Samba, error)
	// PrivilegedDir is the directory of the privileged pipe.
	PrivilegedDir string
	// Identify says who connected: peer.CallerOf.
	Identify func(*net.UnixConn) (peer.Caller, error)

	// Latency is how long requests took, by command; nil: nobody counts.
	Latency *latency.Set

	// AnswerTime is the longest that a request may take; smbclient gives up after
	// 20 s. 0: 15 s. SendTime is how long a request may take to arrive and an
	// answer to be taken. 0: 15 s.
	AnswerTime, SendTime time.Duration
}

// Connections that may be open on one pipe: one smbd has two for each client of
// its own, all as root, who may have eight times as many as another user. The
// unit's LimitNOFILE is above what both pipes can take.
const (
	maxConnections       = 24576
	maxConnectionsPerUID = 2048
)

// Server serves any number of listeners. Safe for concurrent use.
type Server struct {
	cfg   Config
	life  context.Context
	end   context.CancelFunc
	all   sync.WaitGroup
	rows  rows
	words words
	pace  throttle
	samba samba

	mu         sync.Mutex
	conns      map[*client]struct{}
	closed     int       // for what a client did, since the last line about it
	complained time.Time // when that was
}

// New returns a server.
func New(cfg Config) *Server {
	if cfg.AnswerTime == 0 {
		cfg.AnswerTime = 15 * time.Second
	}
	if cfg.SendTime == 0 {
		cfg.SendTime = 15 * time.Second
	}
	s := &Server{cfg: cfg, conns: map[*client]struct{}{}}
	s.life, s.end = context.WithCancel(context.Background())
	s.rows.directory, s.words.directory = cfg.Directory, cfg.Directory
	s.samba.ask, s.samba.log = cfg.Samba, cfg.Log
	s.pace.init(time.Now)
	return s
}

// Serve accepts connections to the pipe of that name until Stop, which is no
// error, or until the listener fails.
func (s *Server) Serve(ln net.Listener, name peer.Name) error {
	gate := peer.NewGate(name, peer.Limits{Connections: maxConnections, ConnectionsPerUID: maxConnectionsPerUID}, s.cfg.Log, s.cfg.Identify)
	stop := context.AfterFunc(s.life, func() { _ = ln.Close() })
	defer stop()
	go func() { _, _ = s.samba.now(s.life) }() // known before the first one asks
	gated := gate.Listen(ln)
	for {
		conn, err := gated.Accept()
		if err != nil {
			if s.life.Err() != nil {
				return nil
			}
			var passing interface{ Temporary() bool }
			if errors.As(err, &passing) && passing.Temporary() {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			return fault.Wrap(fault.Internal, "accept on the pipe "+string(name), err)
		}
		c, err := s.newClient(conn.(*peer.Conn), name == peer.WinbindPriv)
		if err != nil {
			_ = conn.Close()
			continue
		}
		go func() {
			defer s.all.Done()
			defer s.forget(c)
			c.serve()
		}()
	}
}

// forget ends a connection.
func (s *Server) forget(c *client) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	_ = c.conn.Close()
}

// Disconnect ends all connections: the pipes are closed. Who connects later is
// served.
func (s *Server) Disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.conn.Close()
	}
}

// Stop ends all connections, with what is asked on them, and waits for that or
// for ctx. A client connects again by itself.
func (s *Server) Stop(ctx context.Context) {
	s.end()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.conn.Close()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.all.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

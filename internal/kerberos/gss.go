// SPDX-License-Identifier: Apache-2.0

package kerberos

// Initiator is the client's side of a GSS-API krb5 context being set up
// (RFC 4121 4.1): mutual authentication, replay and sequence detection,
// integrity and confidentiality are always asked for; delegation never is.
type Initiator struct {
}

// NewInitiator starts a context with the service that ticket is for. token is
// the first token to send (GSS framing, KRB_AP_REQ). binding is the MD5 of the
// channel bindings (RFC 4121 4.1.1.2), 16 bytes, or nil for none.
func NewInitiator(ticket *Ticket, binding []byte) (i *Initiator, token []byte, err error) {
	return nil, nil, errUnbuilt
}

// Finish takes the acceptor's answer (KRB_AP_REP), checks that the service
// holds the key of the ticket, and returns the finished context.
func (i *Initiator) Finish(reply []byte) (*Context, error) { return nil, errUnbuilt }

// Context is a finished GSS-API krb5 context. Messages must be opened in the
// order in which the peer sealed them. Sending and receiving may each be used
// by one goroutine at a time.
type Context struct {
}

// Seal makes a Wrap token with confidentiality (RFC 4121 4.2.4).
func (c *Context) Seal(plain []byte) ([]byte, error) { return nil, errUnbuilt }

// Sign makes a Wrap token without confidentiality: the text can be read on
// the way. For the SASL negotiation of RFC 4752 only.
func (c *Context) Sign(plain []byte) ([]byte, error) { return nil, errUnbuilt }

// Open checks a Wrap token and returns its text, and whether it was sealed.
// The next sequence number is demanded: a replayed, reordered or missing token
// is fault.BadCredential.
func (c *Context) Open(token []byte) (plain []byte, sealed bool, err error) {
	return nil, false, errUnbuilt
}

// MIC makes a checksum token over message (RFC 4121 4.2.6.1), as GSS-TSIG
// (RFC 3645) signs with.
func (c *Context) MIC(message []byte) ([]byte, error) { return nil, errUnbuilt }

// VerifyMIC checks the peer's checksum token over message.
func (c *Context) VerifyMIC(message, mic []byte) error { return errUnbuilt }

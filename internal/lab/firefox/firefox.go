// SPDX-License-Identifier: Apache-2.0

// Package firefox drives a headless Firefox on a machine of the lab, for what a
// Chromium cannot show: whether Firefox heeds the policies that we print. It
// speaks Marionette, Firefox's own protocol for automation, and needs no program
// beside the browser.
package firefox

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

// Layer is what the machine has to be started with.
var Layer = lab.LayerSpec{Name: "firefox", Packages: strings.Fields(`firefox-esr fonts-dejavu-core`)}

// Policies is where Firefox on Linux looks for policies.json.
const Policies = "/etc/firefox/policies/policies.json"

// port is Marionette's own.
const port = "2828"

// A Browser is one window, whose certificates are not looked at. It runs until
// its context ends or Close.
type Browser struct {
	Version string

	process *lab.Process
	mu      sync.Mutex
	conn    net.Conn
	in      *bufio.Reader
	asked   int
}

// starts is how often a browser is started that goes away before its session is
// there: now and then Firefox resets the connection just after it was asked for one.
const starts = 3

// Open starts a browser on a machine that has Layer, with a profile of its own.
func Open(ctx context.Context, m *lab.Machine) (*Browser, error) {
	var err error
	for range starts {
		var b *Browser
		if b, err = open(ctx, m); err == nil {
			return b, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func open(ctx context.Context, m *lab.Machine) (*Browser, error) {
	c := m.Command("firefox-esr", "--headless", "--marionette", "--new-instance", "--profile", "/tmp/firefox")
	c.Env, c.Log = []string{"HOME=/root", "MOZ_DISABLE_CONTENT_SANDBOX=1"}, "/var/log/firefox.log"
	if r, err := m.Run(ctx, "sh", "-c", "rm -rf /tmp/firefox && mkdir /tmp/firefox"); err != nil || !r.Ok() {
		return nil, fmt.Errorf("make the profile: %w %s", err, r)
	}
	p, err := c.Start(ctx)
	if err != nil {
		return nil, err
	}
	b := &Browser{process: p}
	if err := b.connect(ctx, m); err != nil {
		log, _ := m.ReadFile(context.WithoutCancel(ctx), c.Log)
		b.Close()
		return nil, fmt.Errorf("start Firefox: %w; its log:\n%s", err, log)
	}
	return b, nil
}

func (b *Browser) connect(ctx context.Context, m *lab.Machine) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for b.conn == nil {
		if b.conn, err = m.Dial(ctx, "tcp", "127.0.0.1:"+port); err == nil {
			break
		}
		b.conn = nil
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
	b.in = bufio.NewReader(b.conn)
	if _, err := b.message(); err != nil { // it says hello
		return err
	}
	var session struct {
		Capabilities struct {
			BrowserVersion string `json:"browserVersion"`
		} `json:"capabilities"`
	}
	err = b.ask("WebDriver:NewSession", map[string]any{"acceptInsecureCerts": true, "timeouts": map[string]int{"pageLoad": 30000, "script": 10000}}, &session)
	b.Version = session.Capabilities.BrowserVersion
	return err
}

// Close ends the browser.
func (b *Browser) Close() {
	if b.conn != nil {
		_ = b.conn.Close()
	}
	_ = b.process.Kill()
	_, _ = b.process.Wait()
}

// message reads one message: its length in digits, a colon, and JSON.
func (b *Browser) message() ([]byte, error) {
	head, err := b.in.ReadString(':')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(head, ":"))
	if err != nil || n < 0 || n > 16<<20 {
		return nil, fmt.Errorf("the browser says %q where a length belongs", head)
	}
	text := make([]byte, n)
	_, err = io.ReadFull(b.in, text)
	return text, err
}

// ask sends one command, [0, id, name, parameters], and reads its answer,
// [1, id, error, result].
func (b *Browser) ask(name string, parameters map[string]any, into any) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	text, err := json.Marshal([]any{0, b.asked, name, parameters})
	if err != nil {
		return err
	}
	if err := b.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(b.conn, "%d:%s", len(text), text); err != nil {
		return err
	}
	answer, err := b.message()
	if err != nil {
		return err
	}
	var parts [4]json.RawMessage
	var trouble *struct{ Error, Message string }
	if err := json.Unmarshal(answer, &parts); err != nil {
		return fmt.Errorf("the browser says %.200q: %w", answer, err)
	}
	if err := json.Unmarshal(parts[2], &trouble); err != nil {
		return err
	}
	if trouble != nil {
		return errors.New(name + ": " + trouble.Error + ": " + trouble.Message)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(parts[3], into)
}

// Goto opens an address and waits until the page is there.
func (b *Browser) Goto(url string) error {
	return b.ask("WebDriver:Navigate", map[string]any{"url": url}, nil)
}

// Eval runs the body of a function of JavaScript in the page, and returns the
// text that it returns.
func (b *Browser) Eval(body string) (string, error) {
	var r struct{ Value string }
	err := b.ask("WebDriver:ExecuteScript", map[string]any{"script": body, "args": []any{}}, &r)
	return r.Value, err
}

// Text returns the text of the first element that a CSS selector finds; empty
// where there is none.
func (b *Browser) Text(selector string) (string, error) {
	quoted, err := json.Marshal(selector)
	if err != nil {
		return "", err
	}
	return b.Eval("const e = document.querySelector(" + string(quoted) + "); return e ? e.innerText : ''")
}

// SPDX-License-Identifier: Apache-2.0

// Package browser drives a headless Chromium on a machine of the lab, as a
// person would: it goes to pages, clicks, types, and looks. The rules of
// accessibility are axe-core's.
//
// It knows nothing of the pages it goes to, and never ships.
package browser

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	_ "embed"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

//go:embed driver.mjs
var driver []byte

// flags keep Chromium from looking for hosts that a lab does not have. It runs
// as root in a box of its own, where its sandbox cannot.
var flags = []string{"--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"}

// A Browser runs until its context ends or Close.
type Browser struct {
	Version string

	mu      sync.Mutex
	process *lab.Process
	in      *os.File
	out     *bufio.Reader
	close   func()
	pages   int
}

// Options of a browser.
type Options struct {
	Flags []string // more of them
	Env   []string
	// Profile is a directory for the profile of ordinary windows, in which
	// Chromium offers tickets; their pages share cookies, and PageOptions do not
	// count. Empty: each page is a private window.
	Profile string
}

// Open starts a browser on a machine that has the layer of package node.
func Open(ctx context.Context, m *lab.Machine, o Options) (*Browser, error) {
	const file = lab.NodeDir + "/browser/driver.mjs"
	if err := m.WriteFile(ctx, file, driver, 0o644); err != nil {
		return nil, err
	}
	theirIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, theirIn.Close(), in.Close())
	}
	c := m.Command("node", file)
	c.Stdin, c.Stdout, c.Env = theirIn, theirOut, o.Env
	p, err := c.Start(ctx)
	_ = theirIn.Close()
	_ = theirOut.Close()
	b := &Browser{process: p, in: in, out: bufio.NewReaderSize(out, 1<<16), close: func() { _ = in.Close(); _ = out.Close() }}
	if err != nil {
		b.close()
		return nil, err
	}
	if err := b.ask(map[string]any{"op": "launch", "kept": o.Profile, "args": append(append([]string{}, flags...), o.Flags...)}, &b.Version); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// Close ends the browser.
func (b *Browser) Close() {
	_ = b.process.Kill()
	b.close()
}

// ask sends one command and reads its answer.
func (b *Browser) ask(command map[string]any, into any) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	line, err := json.Marshal(command)
	if err != nil {
		return err
	}
	if _, err := b.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("the browser's driver is gone: %w", err)
	}
	text, err := b.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the browser's driver is gone: %w", err)
	}
	var answer struct {
		Value json.RawMessage `json:"value"`
		Error string          `json:"error"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("the browser's driver said %q: %w", text, err)
	}
	if answer.Error != "" {
		return fmt.Errorf("%v: %s", command["op"], answer.Error)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer.Value, into)
}

// PageOptions say whose page it is.
type PageOptions struct {
	Locale string            // "hu-HU"; empty: English
	Dark   bool              // the color scheme that the person likes
	Width  int               // of the window, in CSS pixels; 0: 1000
	NoJS   bool              // JavaScript is switched off
	Header map[string]string // sent with every request
	Beside *Page             // open it as another tab of this one's window: it shares the cookies, and the other options do not count
}

// A Page is one tab of a person who shares no cookie with another page, unless
// PageOptions.Beside says so.
type Page struct {
	b  *Browser
	id string
}

// Page opens an empty tab.
func (b *Browser) Page(o PageOptions) (*Page, error) {
	b.mu.Lock()
	b.pages++
	p := &Page{b: b, id: strconv.Itoa(b.pages)}
	b.mu.Unlock()
	scheme, width, locale := "light", o.Width, o.Locale
	if o.Dark {
		scheme = "dark"
	}
	if width == 0 {
		width = 1000
	}
	if locale == "" {
		locale = "en-US"
	}
	options := map[string]any{"colorScheme": scheme, "locale": locale, "javaScriptEnabled": !o.NoJS, "viewport": map[string]int{"width": width, "height": 800}}
	if o.Header != nil {
		options["extraHTTPHeaders"] = o.Header
	}
	command := map[string]any{"options": options}
	if o.Beside != nil {
		command["beside"] = o.Beside.id
	}
	return p, p.ask("open", command, nil)
}

func (p *Page) ask(op string, more map[string]any, into any) error {
	command := map[string]any{"op": op, "page": p.id}
	for k, v := range more {
		command[k] = v
	}
	return p.b.ask(command, into)
}

// Close ends the tab and forgets its cookies.
func (p *Page) Close() error { return p.ask("close", nil, nil) }

// Response is what a page came with.
type Response struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
}

// Goto opens an address and waits until the page is there.
func (p *Page) Goto(url string) (r Response, err error) {
	return r, p.ask("goto", map[string]any{"url": url}, &r)
}

// Back goes back in the history, as by the browser's button.
func (p *Page) Back() error { return p.ask("back", nil, nil) }

// Click clicks on the first element that a CSS selector finds.
func (p *Page) Click(selector string) error {
	return p.ask("click", map[string]any{"sel": selector}, nil)
}

// Fill types a text into a field.
func (p *Page) Fill(selector, text string) error {
	return p.ask("fill", map[string]any{"sel": selector, "text": text}, nil)
}

// Press presses a key: "Tab", "Enter".
func (p *Page) Press(key string) error { return p.ask("press", map[string]any{"key": key}, nil) }

// WaitURL waits until the address contains a text.
func (p *Page) WaitURL(part string) error { return p.ask("waitURL", map[string]any{"part": part}, nil) }

// Text returns the visible text of an element.
func (p *Page) Text(selector string) (text string, err error) {
	return text, p.ask("text", map[string]any{"sel": selector}, &text)
}

// Count returns how many elements a selector finds.
func (p *Page) Count(selector string) (n int, err error) {
	return n, p.ask("count", map[string]any{"sel": selector}, &n)
}

// URL returns the address.
func (p *Page) URL() (url string, err error) { return url, p.ask("url", nil, &url) }

// Eval evaluates an expression of JavaScript in the page.
func (p *Page) Eval(expression string, into any) error {
	return p.ask("eval", map[string]any{"text": expression}, into)
}

// Requests returns the address of everything that the tab has asked for.
func (p *Page) Requests() (urls []string, err error) { return urls, p.ask("requests", nil, &urls) }

// Cookie is one cookie of the tab.
type Cookie struct {
	Name     string `json:"name"`
	Value    string `json:"value"`
	Domain   string `json:"domain"`
	Path     string `json:"path"`
	HTTPOnly bool   `json:"httpOnly"`
	Secure   bool   `json:"secure"`
	SameSite string `json:"sameSite"`
}

// Cookies returns the tab's cookies.
func (p *Page) Cookies() (all []Cookie, err error) { return all, p.ask("cookies", nil, &all) }

// Shot returns a picture of the whole page, PNG.
func (p *Page) Shot() ([]byte, error) {
	var text string
	if err := p.ask("shot", nil, &text); err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(text)
}

// Violation is one rule of axe-core that a page breaks.
type Violation struct {
	ID    string   `json:"id"`
	Help  string   `json:"help"`
	Nodes []string `json:"nodes"`
}

// Axe returns the rules of accessibility that the page breaks. It is an error
// when not one rule was met: then nothing was looked at.
func (p *Page) Axe() ([]Violation, error) {
	var r struct {
		Violations []Violation `json:"violations"`
		Passes     int         `json:"passes"`
	}
	if err := p.ask("axe", nil, &r); err != nil {
		return nil, err
	}
	if r.Passes == 0 {
		return nil, errors.New("axe-core looked at nothing")
	}
	return r.Violations, nil
}

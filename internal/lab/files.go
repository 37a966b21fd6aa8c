// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
)

// Open opens a file of the machine. The init opens it, so links and mounts
// mean what they mean inside.
func (m *Machine) Open(ctx context.Context, name string, flags int, perm os.FileMode) (*os.File, error) {
	conn, _, passed, err := m.ask(ctx, request{Op: "open", Path: name, Flags: flags, Perm: uint32(perm)})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// The init's own descriptor is closed when the connection is: a program
	// that is written now can be run afterwards.
	var nothing reply
	if _, err := receiveMessage(conn, &nothing); !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
		closeAll(passed)
		return nil, fmt.Errorf("opening %s on %s: %w", name, m.info.Name, err)
	}
	return passed[0], nil
}

// ReadFile returns the content of a file of the machine.
func (m *Machine) ReadFile(ctx context.Context, name string) ([]byte, error) {
	file, err := m.Open(ctx, name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(file)
}

// WriteFile writes a file of the machine, making its directory if needed. The
// mode is that of perm even if the file exists already.
func (m *Machine) WriteFile(ctx context.Context, name string, data []byte, perm os.FileMode) error {
	file, err := m.create(ctx, name, perm)
	if err != nil {
		return err
	}
	if _, err := file.Write(data); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}

// CopyIn copies a file of the host into the machine.
func (m *Machine) CopyIn(ctx context.Context, host, inside string, perm os.FileMode) error {
	source, err := os.Open(host)
	if err != nil {
		return err
	}
	defer source.Close()
	file, err := m.create(ctx, inside, perm)
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, source); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}

func (m *Machine) create(ctx context.Context, name string, perm os.FileMode) (*os.File, error) {
	if _, err := m.Output(ctx, "mkdir", "-p", path.Dir(name)); err != nil {
		return nil, err
	}
	file, err := m.Open(ctx, name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return nil, err
	}
	if err := file.Chmod(perm); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

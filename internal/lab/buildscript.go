// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// runBuildScript runs a script that builds a root, with its arguments, in
// namespaces of its own, so that what it mounts or leaves running is gone when
// it ends, however it ends.
func runBuildScript(ctx context.Context, script string, conf *AptConfig, arguments ...string) error {
	args := []string{"--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "sh", "-eu", "-s"}
	command := exec.CommandContext(ctx, "unshare", append(args, arguments...)...)
	command.Stdin = strings.NewReader(script)
	command.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "TMPDIR=/tmp")
	if conf.HTTP != "" && conf.HTTP != "DIRECT" {
		command.Env = append(command.Env, "http_proxy="+conf.HTTP)
	}
	if conf.HTTPS != "" && conf.HTTPS != "DIRECT" {
		command.Env = append(command.Env, "https_proxy="+conf.HTTPS)
	}
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Run(); err != nil {
		return fmt.Errorf("%w; its last words:\n%s", err, lastLines(output.String(), 25))
	}
	return nil
}

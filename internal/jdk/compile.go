package jdk

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Compile has a compiler make classes below dir that run on a version of Java and all newer ones. It sees nothing of this
// process's environment.
func Compile(ctx context.Context, compiler string, release int, dir string, sources []string) error {
	// Texts are joined by plain code: the default makes the JDK generate code at the first call of each place.
	arguments := append([]string{"--release", strconv.Itoa(release), "-Xlint:-options", "-XDstringConcat=inline", "-d", dir}, sources...)
	command := exec.CommandContext(ctx, compiler, arguments...)
	command.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8", "HOME=" + dir, "TMPDIR=" + dir}
	command.WaitDelay = time.Second
	if printed, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("compile with %s: %w: %s", compiler, err, strings.TrimSpace(string(printed)))
	}
	return nil
}

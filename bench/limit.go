//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// The servers under a CPU limit of a tenth of a core, as a small container has:
// ten milliseconds in each tenth of a second, in a control group of the bench's
// own, of either version.

func (b *bench) limit(ctx context.Context) (string, error) {
	group, err := newGroup()
	if err != nil {
		return fmt.Sprintf("CPU limit: not measured, for there is no control group to be had (%v); that takes root.", err), nil
	}
	defer group.remove()
	for i := range b.limited {
		for _, name := range inTurn(i, plain, bare) {
			if err := b.limitOne(ctx, group, b.servers[name]); err != nil {
				return "", fmt.Errorf("%s under a CPU limit: %w", name, err)
			}
		}
	}
	return fmt.Sprintf("CPU limit: 10 ms in every 100 ms, %d rounds of %d probes at 500/s.", b.limited, b.limitedProbes()), nil
}

func (b *bench) limitOne(ctx context.Context, group group, s *server) error {
	pause(250 * time.Millisecond) // the last server's debt is not this one's
	// The shell is in the group before it becomes the server, whose runtime asks
	// for the limit as it starts.
	c, err := s.run(ctx, "/bin/sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(string(group), "cgroup.procs"))
	if err != nil {
		return err
	}
	defer c.stop()
	b.add(s.name, "limited start", float64(c.start.Microseconds())/1000)
	if _, err := b.answered(ctx, c, at500(ctx, c.load, 250)); err != nil { // warm-up
		return err
	}
	took, err := b.answered(ctx, c, at500(ctx, c.load, b.limitedProbes()))
	if err != nil {
		return err
	}
	b.percentiles(s.name, "limited", took)
	return nil
}

// limitedProbes is enough for a percentile and for tens of periods.
func (b *bench) limitedProbes() int { return 3 * b.plan.paced * b.slices / 2 }

// group is the directory of a control group.
type group string

func newGroup() (group, error) {
	var errs []error
	for _, version := range []struct{ root, file, limit string }{
		{"/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "10000"}, // of the default period, 100 ms
		{"/sys/fs/cgroup", "cpu.max", "10000 100000"},
	} {
		dir := filepath.Join(version.root, fmt.Sprintf("healthd-bench-%d", os.Getpid()))
		err := os.Mkdir(dir, 0o755)
		if err == nil {
			// Without O_CREATE: where the controller is off, the file is not there.
			var f *os.File
			if f, err = os.OpenFile(filepath.Join(dir, version.file), os.O_WRONLY, 0); err == nil {
				_, err = f.WriteString(version.limit)
				err = errors.Join(err, f.Close())
			}
		}
		if err == nil {
			return group(dir), nil
		}
		os.Remove(dir)
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

// remove waits for the kernel, which forgets the group's processes a moment
// after they have ended.
func (g group) remove() {
	for range 100 {
		if os.Remove(string(g)) == nil {
			return
		}
		pause(10 * time.Millisecond)
	}
}

//go:build linux

package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

// What is measured of running servers. Whatever is compared is measured in the
// same minute: the servers take turns, in a changing order, so that company on the
// machine troubles all of them alike.

// bench is one run.
type bench struct {
	plan
	servers map[string]*server
	samples
	failed map[string]int // probes without an answer, by server
}

// start starts the two servers again and again.
func (b *bench) start(ctx context.Context) (string, error) {
	for i := range b.starts + 1 {
		for _, name := range inTurn(i, plain, bare) {
			c, err := b.servers[name].run(ctx)
			if err != nil {
				return "", err
			}
			c.stop()
			if i > 0 { // the first start reads the binary from the disk
				b.add(name, "start", float64(c.start.Microseconds())/1000)
			}
		}
	}
	return fmt.Sprintf("Start: %d of each server.", b.starts), nil
}

// a way is a way to ask.
type way struct {
	name string
	of   []string // the servers that are asked so
	n    int      // how often in a slice
	ask  func(ctx context.Context, l load, n int) outcome
}

func at500(ctx context.Context, l load, n int) outcome { return l.paced(ctx, n, time.Second/500) }
func alone(ctx context.Context, l load, n int) outcome { return l.fresh(ctx, n, 1) }
func fresh(ctx context.Context, l load, n int) outcome { return l.fresh(ctx, n, many) }
func kept(ctx context.Context, l load, n int) outcome  { return l.kept(ctx, n, many) }

// cost measures the processor's time, the time of the answer, and the memory
// before and after. Each round has new processes: luck in a heap's layout or a
// map's seed is none of the figures.
func (b *bench) cost(ctx context.Context) (string, error) {
	ways := []way{
		{"paced", []string{bare, plain}, b.paced, at500},
		{"fresh", []string{bare, plain, basic, aksk, jwt, verbose, targets, overTLS}, b.fresh, fresh},
		{"alone", []string{bare, plain}, b.fresh, alone},
		{"kept", []string{bare, plain, overTLS}, b.kept, kept},
	}
	for round := range b.rounds {
		if err := b.round(ctx, round, ways); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("Cost and time: %d rounds of %d turns, in each turn %d probes at 500/s, %d fresh, %d kept alive; flat out is %d clients at once.",
		b.rounds, b.slices, b.plan.paced, b.plan.fresh, b.plan.kept, many), nil
}

func (b *bench) round(ctx context.Context, round int, ways []way) error {
	running := make(map[string]*child)
	defer func() {
		for _, c := range running {
			c.stop()
		}
	}()
	for _, name := range inTurn(round, slices.Sorted(maps.Keys(b.servers))...) {
		c, err := b.servers[name].run(ctx)
		if err != nil {
			return err
		}
		running[name] = c
	}
	if err := b.memory(running, "idle"); err != nil {
		return err
	}
	for _, way := range ways {
		spent := make(map[string]time.Duration)
		took := make(map[string][]time.Duration)
		for slice := range b.slices + 1 {
			for _, name := range inTurn(round*(b.slices+1)+slice, way.of...) {
				used, times, err := b.measure(ctx, running[name], way)
				if err != nil {
					return err
				}
				if slice > 0 { // the first is the warm-up
					spent[name] += used
					took[name] = append(took[name], times...)
				}
			}
		}
		for _, name := range way.of {
			b.add(name, way.name, float64(spent[name].Nanoseconds())/1000/float64(len(took[name])))
			b.percentiles(name, way.name, took[name])
		}
	}
	return b.memory(running, "after")
}

// measure asks for one slice and returns the processor's time that it took.
func (b *bench) measure(ctx context.Context, c *child, w way) (used time.Duration, took []time.Duration, err error) {
	before, err1 := c.cpu()
	took, err2 := b.answered(ctx, c, w.ask(ctx, c.load, w.n))
	pause(5 * time.Millisecond) // what is left to be done for the last connections
	after, err3 := c.cpu()
	return after - before, took, cmp.Or(err1, err2, err3)
}

// answered counts the probes that failed. A few are told of, for a machine has
// other users; more than one in a hundred make the figures worthless.
func (b *bench) answered(ctx context.Context, c *child, o outcome) ([]time.Duration, error) {
	b.failed[c.name] += o.failed
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case o.failed*100 > len(o.took):
		return nil, fmt.Errorf("%s failed %d of %d probes: %w", c.name, o.failed, o.failed+len(o.took), o.err)
	}
	return o.took, nil
}

func (b *bench) memory(running map[string]*child, when string) error {
	for _, name := range []string{bare, plain} {
		mib, err := running[name].resident()
		if err != nil {
			return err
		}
		b.add(name, when, mib)
	}
	return nil
}

// percentiles adds the median and the 99th percentile in microseconds.
func (b *bench) percentiles(name, of string, took []time.Duration) {
	slices.Sort(took)
	for _, p := range []int{50, 99} {
		b.add(name, fmt.Sprintf("%s p%d", of, p), float64(took[len(took)*p/100].Nanoseconds())/1000)
	}
}

// idle is how many connections a crowd is.
const idle = 5000

// crowd opens idle connections, each of which has had an answer. healthd keeps
// as many as it wants: more answers than that say "Connection: close".
func (b *bench) crowd(ctx context.Context) (string, error) {
	var files syscall.Rlimit // the runtime has raised the soft limit to the hard one
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Max < idle+100 {
		return fmt.Sprintf("Idle connections: not measured, for they take %d file descriptors (ulimit -Hn).", idle+100), nil
	}
	for i := range b.crowds {
		for _, name := range inTurn(i, plain, bare) {
			if err := b.keepIdle(ctx, b.servers[name]); err != nil {
				return "", err
			}
		}
	}
	return fmt.Sprintf("Idle connections: %d opened, %d times for each server.", idle, b.crowds), nil
}

func (b *bench) keepIdle(ctx context.Context, s *server) error {
	c, err := s.run(ctx)
	if err != nil {
		return err
	}
	defer c.stop()
	pause(100 * time.Millisecond)
	mib, err1 := c.resident()
	files, err2 := c.descriptors()
	o, release := c.load.hold(ctx, idle)
	defer release()
	pause(500 * time.Millisecond)
	mibThen, err3 := c.resident()
	filesThen, err4 := c.descriptors()
	_, err5 := b.answered(ctx, c, o)
	kept := float64(filesThen - files)
	b.add(s.name, "crowd kept", kept)
	b.add(s.name, "crowd", mibThen)
	b.add(s.name, "crowd each", (mibThen-mib)*1024/max(kept, 1))
	return cmp.Or(err1, err2, err3, err4, err5)
}

// inTurn is names in an order that differs for each even i and is reversed for
// the odd one after it: nobody is always the first, or behind the same other.
func inTurn(i int, names ...string) []string {
	names = slices.Clone(names)
	order := rand.New(rand.NewPCG(uint64(i/2), 0))
	order.Shuffle(len(names), func(a, b int) { names[a], names[b] = names[b], names[a] })
	if i%2 == 1 {
		slices.Reverse(names)
	}
	return names
}

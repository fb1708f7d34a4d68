// Package reload keeps a value that is parsed from files and re-read when
// their content changes. What the files mean is the caller's to know.
package reload

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Value is the last good value of some files. It is safe for concurrent use.
type Value[T any] struct {
	current atomic.Pointer[T]
	paths   []string
	parse   func(contents [][]byte) (T, error)
	log     *slog.Logger

	mu   sync.Mutex
	seen [][]byte // the content that was parsed last, with success or without
	// failed is why the files cannot be read, so that it is logged once.
	failed string
}

// New returns a Value that is initial until a look at the files finds other
// content. parse takes the contents in the order of paths; its errors are
// logged and must hold no secret. With no paths the value never changes.
func New[T any](initial T, log *slog.Logger, parse func(contents [][]byte) (T, error), paths ...string) *Value[T] {
	v := &Value[T]{paths: paths, parse: parse, log: log}
	v.current.Store(&initial)
	return v
}

// Get returns the last good value. It does not look at the files.
func (v *Value[T]) Get() T { return *v.current.Load() }

// Look reads the files and parses what is new. Content is compared, not times
// or sizes, and the paths are resolved anew: it does not matter whether a file
// was written, renamed, or moved behind a symbolic link, as Kubernetes does
// with a mounted Secret. Content that cannot be read or parsed is logged once
// and changes nothing.
func (v *Value[T]) Look() {
	if len(v.paths) == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	contents, err := v.read()
	if err == nil && slices.EqualFunc(contents, v.seen, bytes.Equal) {
		v.failed = ""
		return
	}
	// Files that are swapped together may have been read half before and half
	// after; what is new is read twice.
	if contents, err = v.read(); err != nil {
		if v.failed != err.Error() {
			v.failed = err.Error()
			v.log.Error("cannot read a file; its last good content stays in use", "err", err)
		}
		return
	}
	first := v.seen == nil
	v.seen, v.failed = contents, ""
	next, err := v.parse(contents)
	files := strings.Join(v.paths, ", ")
	if err != nil {
		v.log.Error("cannot use new file content; the last good stays in use", "files", files, "err", err)
		return
	}
	v.current.Store(&next)
	if !first {
		v.log.Info("reloaded", "files", files)
	}
}

func (v *Value[T]) read() (contents [][]byte, err error) {
	contents = make([][]byte, len(v.paths))
	for i, path := range v.paths {
		if contents[i], err = os.ReadFile(path); err != nil {
			return nil, err
		}
	}
	return contents, nil
}

// Every is how often Watch looks.
const Every = 5 * time.Second

// Watch calls every look at once and then in each interval of length Every,
// until ctx ends.
func Watch(ctx context.Context, looks ...func()) {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for {
		for _, look := range looks {
			look()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

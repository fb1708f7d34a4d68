package throttle

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lines keeps the messages that are written.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, strings.TrimSpace(string(p)))
	return len(p), nil
}

// take returns what was written since the last call.
func (l *lines) take() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	return all
}

func newLog(w io.Writer) *slog.Logger {
	return slog.New(New(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})))
}

// told wants n warnings of the flood and then, if left is not 0, the count of
// those left out.
func told(t *testing.T, got []string, n, left int) {
	t.Helper()
	var want []string
	for range n {
		want = append(want, "level=WARN msg=refused")
	}
	if left > 0 {
		want = append(want, fmt.Sprintf(`level=WARN msg="warnings left out" count=%d`, left))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAFloodIsTenLinesAndACountEachSecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out lines
		log := newLog(&out)
		flood := func(n int) {
			for range n {
				log.Warn("refused")
			}
		}
		flood(10)
		told(t, out.take(), 10, 0)
		time.Sleep(time.Hour)
		told(t, out.take(), 0, 0) // ten leave nothing to count

		flood(11)
		told(t, out.take(), 10, 0)
		time.Sleep(time.Second) // the flood has stopped; its count comes all the same
		told(t, out.take(), 0, 1)

		for range 40 { // ten seconds, in which it does not stop
			flood(100)
			time.Sleep(250 * time.Millisecond)
		}
		time.Sleep(time.Second)
		written, left := 0, 0
		for _, line := range out.take() {
			var n int
			if _, err := fmt.Sscanf(line, `level=WARN msg="warnings left out" count=%d`, &n); err != nil {
				written++
			}
			left += n
		}
		if written != 10*Limit || written+left != 4000 {
			t.Errorf("of 4000 warnings in ten seconds %d were written and %d counted", written, left)
		}
		flood(1)
		told(t, out.take(), 1, 0) // one that comes late is not held back
	})
}

func TestOtherLevelsAreNeverLeftOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out lines
		log := newLog(&out)
		for range 3 * Limit {
			log.Warn("refused")
			log.Info("listening")
			log.Error("cannot read a file")
		}
		if got := len(out.take()); got != Limit+2*3*Limit {
			t.Errorf("%d lines", got)
		}
		time.Sleep(time.Second)
		told(t, out.take(), 0, 2*Limit)
	})
}

func TestAFloodFromManySides(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out lines
		log := newLog(&out)
		var flood sync.WaitGroup
		for range 100 {
			flood.Go(func() { log.Warn("refused") })
		}
		flood.Wait()
		time.Sleep(time.Second)
		told(t, out.take(), Limit, 100-Limit)
	})
}

package throttle

import (
	"io"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lines keeps what is written.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(p))
	return len(p), nil
}

// take returns how many lines were written since the last call, by what they
// say, and the sum of those that tell of others.
func (l *lines) take() (written map[string]int, left int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	written = make(map[string]int)
	for _, line := range l.all {
		if count := regexp.MustCompile(`level=WARN msg="log lines left out" count=(\d+)\n$`).FindStringSubmatch(line); count != nil {
			n, _ := strconv.Atoi(count[1])
			left += n
			continue
		}
		written[regexp.MustCompile(`msg=(\S+)`).FindStringSubmatch(line)[1]]++
	}
	l.all = nil
	return written, left
}

// test runs f with a log that is written to w, under a fake clock.
func test(t *testing.T, w io.Writer, f func(log *slog.Logger, close func())) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := New(w)
		f(slog.New(h), h.Close)
	})
}

func TestAFloodOfWarningsIsTenLinesASecondAndACount(t *testing.T) {
	out := new(lines)
	test(t, out, func(log *slog.Logger, close func()) {
		flood := func(n, written, left int) {
			t.Helper()
			for range n {
				log.Warn("refused")
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if got, gotLeft := out.take(); got["refused"] != written || gotLeft != left {
				t.Errorf("of %d warnings %d were written and %d told of; want %d and %d", n, got["refused"], gotLeft, written, left)
			}
		}
		flood(10, 10, 0)
		flood(11, 10, 1) // the flood has stopped; its count comes all the same
		for range 10 {
			flood(100, 10, 90)
		}
		flood(1, 1, 0)
		close()
	})
}

func TestOtherLevelsAreNotThrottled(t *testing.T) {
	out := new(lines)
	test(t, out, func(log *slog.Logger, close func()) {
		for range 100 {
			log.Warn("refused")
			log.Info("listening")
			log.Error("down")
		}
		close()
		if got, left := out.take(); got["refused"] != 10 || got["listening"] != 100 || got["down"] != 100 || left != 90 {
			t.Errorf("%v were written, %d told of", got, left)
		}
	})
}

func TestAFloodFromManySidesIsCountedToTheLast(t *testing.T) {
	out := new(lines)
	test(t, out, func(log *slog.Logger, close func()) {
		var flood sync.WaitGroup
		for range 100 {
			flood.Go(func() { log.Warn("refused") })
		}
		flood.Wait()
		close()
		if got, left := out.take(); got["refused"] != 10 || left != 90 {
			t.Errorf("%v were written, %d told of", got, left)
		}
	})
}

// stalled is a pipe that nobody reads until it is resumed.
type stalled struct {
	lines
	resumed chan struct{}
}

func (s *stalled) Write(p []byte) (int, error) {
	<-s.resumed
	return s.lines.Write(p)
}

func TestALogThatNobodyReadsBlocksNobodyAndTellsLaterWhatItLost(t *testing.T) {
	out := new(stalled)
	test(t, out, func(log *slog.Logger, closeLog func()) {
		out.resumed = make(chan struct{})
		begun := time.Now()
		const n = 3 * maxQueued
		for range n {
			log.Warn("refused") // pushes out nothing else
		}
		for range n {
			log.Info("request")
		}
		if took := time.Since(begun); took > 0 {
			t.Errorf("logging took %v", took)
		}
		time.Sleep(time.Minute)
		close(out.resumed)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got, left := out.take(); got["refused"] != maxWarnings || got["request"] < maxQueued-maxWarnings || got["refused"]+got["request"]+left != 2*n {
			t.Errorf("of %d warnings and as many others %v were written and %d told of", n, got, left)
		}
		log.Info("request")
		closeLog()
		if got, _ := out.take(); got["request"] != 1 {
			t.Error("afterwards nothing is written")
		}
	})
}

// A client may send a request line of 12 KiB, which takes four times that in quotes.
func TestALineTooLongIsCut(t *testing.T) {
	out := new(lines)
	test(t, out, func(log *slog.Logger, closeLog func()) {
		for _, n := range []int{1, maxLine - 200, maxLine, 1 << 20} {
			log.Info("request", "path", strings.Repeat("a", n))
		}
		closeLog()
		if len(out.all) != 4 {
			t.Fatalf("%d lines, want 4", len(out.all))
		}
		for n, line := range out.all {
			if text := strings.TrimRight(line, "\n"); len(line) != len(text)+1 || len(text) > maxLine || (len(text) == maxLine) != (n >= 2) {
				t.Errorf("line %d has %d bytes, and ends in %q", n, len(line), line[len(line)-5:])
			}
		}
	})
}

func TestCloseWaitsForNobody(t *testing.T) {
	out := new(stalled)
	test(t, out, func(log *slog.Logger, closeLog func()) {
		out.resumed = make(chan struct{})
		for range 2 * maxQueued {
			log.Info("request")
		}
		begun := time.Now()
		closeLog()
		if took := time.Since(begun); took > 500*time.Millisecond {
			t.Errorf("took %v, want half a second at most", took)
		}
		log.Info("after the end")
		close(out.resumed)
		closeLog() // again, for the goroutine's sake
	})
}

// broken is a pipe whose reader goes, and comes again.
type broken struct {
	lines
	gone bool
}

func (b *broken) Write(p []byte) (int, error) {
	if b.gone {
		return 0, io.ErrClosedPipe
	}
	return b.lines.Write(p)
}

func TestLinesThatNoReaderTookAreCounted(t *testing.T) {
	out := new(broken)
	test(t, out, func(log *slog.Logger, closeLog func()) {
		out.gone = true
		for range 5 {
			log.Info("request")
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		out.gone = false
		log.Info("back")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got, left := out.take(); got["back"] != 1 || left != 5 {
			t.Errorf("%v were written, and %d told of; want 5", got, left)
		}
		closeLog()
	})
}

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pace is the time between two requests of one client.
const pace = 4 * time.Millisecond

// clients is how many there are of each kind.
const clients = 4

// tally counts what came of one client's requests.
type tally struct {
	healthy, draining, lost int
	firstLoss               string
}

func (t *tally) add(u tally) {
	t.healthy += u.healthy
	t.draining += u.draining
	t.lost += u.lost
	if t.firstLoss == "" {
		t.firstLoss = u.firstLoss
	}
}

// steady asks /health at a steady pace until ctx ends or until says so.
func (c *client) steady(ctx context.Context, until func(answer, error) bool) (got tally) {
	defer c.close()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return got
		case <-tick.C:
		}
		a, err := c.get("/health")
		switch {
		case err == nil && a.own() && a.code == 200:
			got.healthy++
		case err == nil && a.own():
			got.draining++
		default:
			got.lost++
			if got.firstLoss == "" {
				got.firstLoss = fmt.Sprintf("code %d, body %.40q, error %v", a.code, a.body, err)
			}
		}
		if until(a, err) {
			return got
		}
	}
}

// replace restarts an instance once the balancer has taken it out, and waits
// until that has its successor in.
func (i *instance) replace(t *testing.T, state func(addr string) string, env []string, args ...string) *instance {
	t.Helper()
	i.signal(t, syscall.SIGTERM)
	eventually(t, "it is out of rotation", func() bool { return state(i.addr) != up })
	if code := i.wait(t, patience); code != 0 {
		t.Fatalf("exit code %d, want 0", code)
	}
	next := start(t, slices.Concat(env, []string{"HEALTHD_ADDR=" + i.addr}), args...)
	eventually(t, "its replacement is in rotation", func() bool { return state(next.addr) == up })
	return next
}

// roll replaces each of two instances behind HAProxy, rounds times over, under
// steady load through it.
func roll(t *testing.T, rounds int, drain string) (total tally) {
	t.Helper()
	instances := []*instance{start(t, nil, "-drain", drain), start(t, nil, "-drain", drain)}
	front, state := haproxy(t, [2]string{instances[0].addr, instances[1].addr})
	for _, i := range instances {
		eventually(t, "it is in rotation", func() bool { return state(i.addr) == up })
	}

	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	kept, fresh := make([]tally, clients), make([]tally, clients)
	never := func(answer, error) bool { return false }
	for n := range clients {
		load.Go(func() { kept[n] = (&client{addr: front}).steady(ctx, never) })
		load.Go(func() { fresh[n] = (&client{addr: front, fresh: true}).steady(ctx, never) })
	}
	for range rounds {
		for n, old := range instances {
			instances[n] = old.replace(t, state, nil, "-drain", drain)
		}
	}
	stop()
	load.Wait()
	for kind, tallies := range map[string][]tally{"kept": kept, "fresh": fresh} {
		var sum tally
		for _, one := range tallies {
			sum.add(one)
		}
		t.Logf("-drain %s, %d restarts, %s connections: %d healthy, %d draining, %d lost %s",
			drain, rounds*len(instances), kind, sum.healthy, sum.draining, sum.lost, sum.firstLoss)
		total.add(sum)
	}
	return total
}

func TestRollingRestartLosesNoRequest(t *testing.T) {
	got := roll(t, 10, "600ms") // HAProxy needs up to three times 100 ms
	if got.lost > 0 {
		t.Errorf("%d requests lost, the first: %s", got.lost, got.firstLoss)
	}
	if got.healthy == 0 || got.draining == 0 {
		t.Errorf("%d healthy and %d draining answers: no load, or no drain under load", got.healthy, got.draining)
	}
}

// browser is what people's clients send: more than fits a small HPACK table.
const browser = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
	"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"

// Four hundred requests a second, half of them on connections of their own,
// through three restarts of either instance.
func TestNoBalancerLosesARequestInARollingRestart(t *testing.T) {
	for _, row := range balancers[1:] { // HAProxy's is above
		t.Run(row.name, func(t *testing.T) {
			env, ca := []string{"HEALTHD_DRAIN=600ms"}, ""
			if row.tls {
				crt := newCertificate(t, ecdsaKey(t))
				env, ca = append(env, crt.install(t)...), written(t, crt.cert)
			}
			instances := []*instance{start(t, env), start(t, env)}
			front, state := row.start(t, [2]string{instances[0].addr, instances[1].addr}, ca)
			for _, i := range instances {
				eventually(t, "it is in rotation", func() bool { return state(i.addr) == up })
			}
			eventually(t, "the balancer listens", func() bool {
				_, err := (&client{addr: front, fresh: true}).get("/health")
				return err == nil
			})
			l := newLoad(t)
			for n := range 2 * clients {
				l.add(client{addr: front, fresh: n%2 == 0, header: browser}, 5*pace, func(c *client) error {
					if a, err := c.get("/health"); err != nil || !a.own() {
						return fmt.Errorf("code %d, body %.40q, error %v", a.code, a.body, err)
					}
					return nil
				})
			}
			for range 3 {
				for n, old := range instances {
					instances[n] = old.replace(t, state, env)
				}
			}
			l.report(t, row.name)
		})
	}
}

// The tests above prove something only if they can fail.
func TestRollingRestartWithoutDrainLosesRequests(t *testing.T) {
	if got := roll(t, 3, "0"); got.lost == 0 {
		t.Errorf("no loss in %d requests: the load does not see a closed port", got.healthy+got.draining)
	}
}

// A client that pools its connections reads "Connection: close" on each before
// it ends: none meets an error.
func TestDrainCutsNoPooledConnection(t *testing.T) {
	i := start(t, nil, "-drain", "2s")
	busy := make(chan struct{}, clients)
	last := make([]answer, clients)
	tallies := make([]tally, clients)
	var load sync.WaitGroup
	for n := range clients {
		load.Go(func() {
			asked := 0
			tallies[n] = (&client{addr: i.addr}).steady(t.Context(), func(a answer, err error) bool {
				if asked++; asked == 10 {
					busy <- struct{}{}
				}
				last[n] = a
				return err != nil || a.last
			})
		})
	}
	for range clients {
		<-busy
	}
	i.signal(t, syscall.SIGTERM)
	if code := i.wait(t, patience); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	load.Wait()
	for n, got := range tallies {
		if got.lost > 0 || got.draining != 1 || !last[n].last {
			t.Errorf("client %d: %+v, last answer %+v", n, got, last[n])
		}
	}
}

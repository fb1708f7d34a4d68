//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// The traffic is POST /token, which nobody sends twice: each gets its token,
// from an instance that drains too.
func TestLockedRollingRestartLosesNoToken(t *testing.T) {
	const rounds = 10
	basic, keys, key := newPair(), newPair(), newKey()
	crt := newCertificate(t, ecdsaKey(t))
	env := append(crt.install(t), "HEALTHD_VERBOSE=true", "HEALTHD_DRAIN=600ms", // HAProxy needs up to three times 100 ms
		"HEALTHD_AUTH=aksk,jwt", "HEALTHD_BASIC_FILE="+written(t, basic),
		"HEALTHD_AKSK_FILE="+written(t, keys), "HEALTHD_JWT_SECRET_FILE="+written(t, key))
	access, secret, _ := strings.Cut(keys, ":")

	instances := []*instance{start(t, env), start(t, env)}
	front, state := lockedHAProxy(t, [2]string{instances[0].addr, instances[1].addr}, []string{
		"HEALTHD_CA=" + written(t, crt.cert), "HEALTHD_ACCESS_KEY=" + access, "HEALTHD_SECRET_KEY=" + secret,
	})
	for _, i := range instances {
		eventually(t, "it is in rotation", func() bool { return state(i.addr) == up })
	}

	loads := make(map[string]*load)
	for _, kind := range []string{"Basic, kept connections", "keys, fresh connections"} {
		l := newLoad(t)
		c, subject := client{addr: front, header: authorization("basic", basic)}, strings.Split(basic, ":")[0]
		if strings.HasPrefix(kind, "keys") {
			c, subject = client{addr: front, fresh: true, header: authorization("aksk", keys)}, access
		}
		for range clients {
			l.add(c, pace, func(c *client) error {
				a, err := c.ask("POST", "/token")
				if err != nil || a.code != http.StatusOK {
					return fmt.Errorf("code %d, body %.40q, error %v", a.code, a.body, err)
				}
				if got, err := verify(a.body, key); err != nil || got.Sub != subject {
					return fmt.Errorf("its token: %v, or for somebody else", err)
				}
				return nil
			})
		}
		loads[kind] = l
	}
	late := 0 // tokens from instances that drained
	for range rounds {
		for n, old := range instances {
			instances[n] = old.replace(t, state, env)
			_, drained, _ := strings.Cut(old.stderr.String(), "msg=draining")
			late += strings.Count(drained, "path=/token proto=HTTP/1.1 status=200")
		}
	}
	for kind, l := range loads {
		l.report(t, kind)
	}
	t.Logf("%d restarts, %d tokens from draining instances", rounds*len(instances), late)
	if late == 0 {
		t.Error("no drain under load")
	}
}

//go:build e2e

package e2e

import (
	"encoding/json"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// deployed returns the content of a file that users copy.
func deployed(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// edited has replaced what users are to replace. It must be there.
func edited(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("there is no %q", pairs[i])
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// listening waits until a program of Prometheus's makers listens, and returns
// where. It was given port 0.
func (p *process) listening(t *testing.T) (addr string) {
	t.Helper()
	listening := regexp.MustCompile(`msg="Listening on" address=(\S+)`)
	eventually(t, filepath.Base(p.Path)+" listens", func() bool {
		line := listening.FindStringSubmatch(p.stderr.String())
		if line != nil {
			addr = line[1]
		}
		return line != nil
	})
	return addr
}

func TestPrometheusTakesItsFiles(t *testing.T) {
	const deploy = "../deploy/prometheus/"
	output(t, nil, "promtool", "check", "config", deploy+"prometheus.yml")
	output(t, nil, "promtool", "check", "rules", deploy+"alerts.yml")
	output(t, nil, "prometheus-blackbox-exporter", "--config.check", "--config.file="+deploy+"blackbox.yml")
}

func TestPrometheusAlertsOfWhatStaysUnhealthyOrUnknown(t *testing.T) {
	output(t, nil, "promtool", "test", "rules", "testdata/alerts.yml")
}

func TestPrometheusSeesThroughEveryLockAndTheDrain(t *testing.T) {
	crt := newCertificate(t, ecdsaKey(t))
	password, keys, secret := newKey(), newPair(), newKey()
	basic := "alice:" + password
	keep(authorization("basic", basic))
	instances := make(map[string]*instance) // by target
	var groups, withToken string
	for module, env := range map[string][]string{
		"healthd":       nil,
		"healthd_basic": append(crt.install(t), "HEALTHD_AUTH=basic", "HEALTHD_BASIC="+basic),
		"healthd_aksk":  append(crt.install(t), "HEALTHD_AUTH=aksk", "HEALTHD_AKSK="+keys),
		"healthd_jwt":   append(crt.install(t), "HEALTHD_AUTH=jwt", "HEALTHD_JWT_SECRET="+secret),
	} {
		i, target := start(t, env, "-drain", "1m"), "http"
		if env != nil {
			target = "https"
		}
		target += "://" + i.addr + "/health"
		instances[target] = i
		if module == "healthd_jwt" {
			withToken = target
		}
		groups += "      - targets: ['" + target + "']\n        labels: {__param_module: " + module + "}\n"
	}

	// What an operator puts into /etc/prometheus.
	etc := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(etc, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("password", password+"\n")
	write("token", mint(newKey(), map[string]any{"exp": 1e300})+"\n")
	write("ca.crt", crt.cert)
	modules := deployed(t, "../deploy/prometheus/blackbox.yml")
	command := regexp.MustCompile(`(?s)sed -n.*?/etc/prometheus/blackbox\.yml`).FindString(modules)
	output(t, nil, "sh", "-c", edited(t, command,
		"\n  #", "\n",
		"keys/aksk", write("aksk", "# keys\n"+keys+"\n"),
		"deploy/prometheus/blackbox.yml", write("template.yml", edited(t, modules, "/etc/prometheus/healthd", etc)),
		"/etc/prometheus/blackbox.yml", etc+"/blackbox.yml"))
	if info, err := os.Stat(etc + "/blackbox.yml"); err != nil {
		t.Fatal(err)
	} else if info.Mode().Perm() != 0o600 {
		t.Errorf("the keys are in a file of mode %v", info.Mode())
	}
	exporter := spawn(t, nil, nil, program(t, "prometheus-blackbox-exporter"),
		"--config.file="+etc+"/blackbox.yml", "--web.listen-address="+targetHost+":0")
	alerts, err := filepath.Abs("../deploy/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	config := write("prometheus.yml", edited(t, deployed(t, "../deploy/prometheus/prometheus.yml"),
		"[alerts.yml]", "["+alerts+"]",
		"_interval: 5s", "_interval: 200ms",
		"replacement: 127.0.0.1:9115", "replacement: "+exporter.listening(t),
		"      - targets: [http://127.0.0.1:8080/health]\n        labels: {__param_module: healthd}\n", groups))
	prometheus := spawn(t, nil, nil, program(t, "prometheus"),
		"--config.file="+config, "--storage.tsdb.path="+etc+"/data", "--web.listen-address="+targetHost+":0")
	addr := prometheus.listening(t)

	// query returns the values of a metric, by instance.
	query := func(metric string) map[string]string {
		_, body := exchange(t, addr, "GET", "/api/v1/query?query="+url.QueryEscape(metric), "")
		var found struct {
			Data struct {
				Result []struct {
					Metric struct{ Instance string }
					Value  [2]any
				}
			}
		}
		json.Unmarshal([]byte(body), &found) // until Prometheus is ready it is none
		values := make(map[string]string)
		for _, r := range found.Data.Result {
			values[r.Metric.Instance], _ = r.Value[1].(string)
		}
		return values
	}
	// each gives every instance the one value, and that which wants a token the other.
	each := func(value, token string) map[string]string {
		all := make(map[string]string)
		for target := range instances {
			all[target] = value
		}
		all[withToken] = token
		return all
	}
	is := func(metric string, want map[string]string) func() bool {
		return func() bool { return maps.Equal(query(metric), want) }
	}
	const success, code = "probe_success", "probe_http_status_code"
	eventually(t, "all succeed but that with a wrong token", is(success, each("1", "0")))
	eventually(t, "that is refused", is(code, each("200", "403")))
	write("token", mint(secret, map[string]any{"exp": time.Now().Add(time.Hour).Unix()})+"\n")
	eventually(t, "a new token is found with no reload", is(success, each("1", "1")))

	for _, i := range instances {
		i.signal(t, syscall.SIGTERM)
	}
	eventually(t, "none succeeds", is(success, each("0", "0")))
	eventually(t, "all say that they drain", is(code, each("503", "503")))
	eventually(t, "the alert is pending", is(`ALERTS{alertname="HealthdNotHealthy", alertstate="pending"}`, each("1", "1")))
	for _, p := range []*process{exporter, prometheus} {
		if leaks(p.stdout.String() + p.stderr.String()) {
			t.Errorf("%s prints a secret", filepath.Base(p.Path))
		}
	}
}

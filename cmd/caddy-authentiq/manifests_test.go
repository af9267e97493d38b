// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const examples = "../../examples/sidecar"

// checkManifests runs the check of schemas.
func checkManifests(t *testing.T, names ...string) (said string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"run", "."}, names...)...)
	cmd.Dir = filepath.Join(examples, "check")
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "AUTHENTIQ_KEY=the-client-id")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestTheManifestsFitTheSchemasOfWhatReadsThem(t *testing.T) {
	if said, err := checkManifests(t, "../compose.yaml", "../kubernetes.yaml"); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	folder := t.TempDir()
	for _, broken := range [][3]string{
		{"compose.yaml", "    read_only: true", "    readonly: true"},
		{"compose.yaml", "pids_limit: 256", "pids_limit: [256]"},
		{"compose.yaml", "- inside", "- elsewhere"},
		{"kubernetes.yaml", "replicas: 2", "replicas: two"},
		{"kubernetes.yaml", "readOnlyRootFilesystem", "readOnlyRootFileSystem"},
		{"kubernetes.yaml", "kind: NetworkPolicy", "kind: Networkpolicy"},
		{"kubernetes.yaml", "  selector:\n    matchLabels:\n      app.kubernetes.io/name: app\n", ""},
	} {
		text, err := os.ReadFile(filepath.Join(examples, broken[0]))
		if err != nil || !strings.Contains(string(text), broken[1]) {
			t.Fatalf("%s has no %q: %v", broken[0], broken[1], err)
		}
		name := filepath.Join(folder, broken[0])
		if err := os.WriteFile(name, []byte(strings.Replace(string(text), broken[1], broken[2], 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if said, err := checkManifests(t, name); err == nil || !strings.Contains(said, name+": ") {
			t.Errorf("%q for %q is taken: %v %s", broken[2], broken[1], err, said)
		}
	}
}

// object is a part of a manifest.
type object = map[string]any

// at follows names and indexes into a manifest.
func at(t *testing.T, value any, path ...any) any {
	t.Helper()
	for _, step := range path {
		switch step := step.(type) {
		case string:
			part, ok := value.(object)
			if !ok {
				t.Fatalf("%v: no %v", path, step)
			}
			value = part[step]
		case int:
			list, ok := value.([]any)
			if !ok || step >= len(list) {
				t.Fatalf("%v: no %v", path, step)
			}
			value = list[step]
		}
	}
	return value
}

func manifests(t *testing.T, name string) (all []object) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(examples, name))
	if err != nil {
		t.Fatal(err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var one object
		if err := decoder.Decode(&one); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
}

// want compares a part of a manifest.
func want(t *testing.T, value any, expected any, path ...any) {
	t.Helper()
	if got := at(t, value, path...); fmt.Sprint(got) != fmt.Sprint(expected) {
		t.Errorf("%v is %v, want %v", path, got, expected)
	}
}

// sidecarTakes reads the variables of a manifest as the sidecar does, with the
// secrets that are mounted in files of the test's.
func sidecarTakes(t *testing.T, values map[string]string) {
	t.Helper()
	secret, random := filepath.Join(t.TempDir(), "secret"), make([]byte, 32)
	_, _ = rand.Read(random) // never fails, it ends the process instead
	if err := os.WriteFile(secret, []byte(hex.EncodeToString(random)), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := []string{"CADDY_ADMIN=unix//data/admin.sock"}
	for name, value := range values {
		if strings.HasPrefix(value, "/run/secrets/") {
			value = secret
		}
		environ = append(environ, name+"="+value)
	}
	asSet(t, environ)
	s, err := readEnvironment(environ)
	if err == nil {
		_, err = s.config()
	}
	if err != nil {
		t.Error(err)
	}
	for _, v := range variables {
		if _, plain := values[v.name]; v.secret && plain && v.name != "AUTHENTIQ_KEY" {
			t.Errorf("%s is no file", v.name)
		}
	}
}

func TestInComposeTheApplicationIsReachableOnlyThroughTheGate(t *testing.T) {
	file := manifests(t, "compose.yaml")[0]
	services, _ := at(t, file, "services").(object)
	for name, service := range services {
		want(t, service, true, "read_only")
		want(t, service, []any{"ALL"}, "cap_drop")
		want(t, service, []any{"no-new-privileges:true"}, "security_opt")
		for _, no := range []string{"privileged", "network_mode", "pid", "cap_add", "volumes_from"} {
			if at(t, service, no) != nil {
				t.Errorf("%s has %s", name, no)
			}
		}
		if name != "gate" {
			want(t, service, nil, "ports")
			want(t, service, []any{"inside"}, "networks")
			want(t, service, nil, "volumes")
			want(t, service, nil, "secrets")
		}
	}
	want(t, file, true, "networks", "inside", "internal")
	want(t, file, []any{"gate:/data"}, "services", "gate", "volumes")
	values := make(map[string]string)
	for name, value := range at(t, file, "services", "gate", "environment").(object) {
		values[name] = strings.TrimSpace(fmt.Sprint(value))
		if strings.HasPrefix(values[name], "${") {
			values[name] = "the-client-id"
		}
	}
	sidecarTakes(t, values)
}

func TestInKubernetesTheApplicationIsReachableOnlyThroughTheGate(t *testing.T) {
	all := manifests(t, "kubernetes.yaml")
	kinds := make(map[string]object)
	for _, one := range all {
		kinds[at(t, one, "kind").(string)] = one
	}
	pod := at(t, kinds["Deployment"], "spec", "template", "spec")
	want(t, pod, true, "securityContext", "runAsNonRoot")
	want(t, pod, false, "automountServiceAccountToken")
	containers := at(t, pod, "containers").([]any)
	users := make(map[string]bool)
	for _, c := range containers {
		want(t, c, true, "securityContext", "readOnlyRootFilesystem")
		want(t, c, false, "securityContext", "allowPrivilegeEscalation")
		want(t, c, []any{"ALL"}, "securityContext", "capabilities", "drop")
		if at(t, c, "resources", "limits", "memory") == nil {
			t.Errorf("%v has no limit", at(t, c, "name"))
		}
		users[fmt.Sprint(at(t, c, "securityContext", "runAsUser"))] = true
	}
	gate, app := containers[0], containers[1]
	if want(t, gate, "gate", "name"); len(users) != 2 || !users["65532"] {
		t.Errorf("users: %v", users)
	}
	want(t, app, nil, "ports")
	want(t, app, nil, "volumeMounts")
	for probe, command := range map[string][]any{"livenessProbe": {"/caddy-authentiq", "health"}, "startupProbe": {"/caddy-authentiq", "health"}, "readinessProbe": {"/caddy-authentiq", "health", "--ready"}} {
		want(t, gate, command, probe, "exec", "command")
	}
	want(t, gate, "gate", "ports", 0, "name")
	want(t, kinds["Service"], "gate", "spec", "ports", 0, "targetPort")
	policy := kinds["NetworkPolicy"]
	want(t, policy, []any{"Ingress", "Egress"}, "spec", "policyTypes")
	if rules := at(t, policy, "spec", "ingress").([]any); len(rules) != 1 {
		t.Errorf("%d ways in", len(rules))
	}
	want(t, policy, "[map[port:gate protocol:TCP]]", "spec", "ingress", 0, "ports")
	labels := at(t, kinds["Deployment"], "spec", "template", "metadata", "labels")
	for _, selector := range []any{at(t, kinds["Service"], "spec", "selector"), at(t, policy, "spec", "podSelector", "matchLabels"), at(t, kinds["Deployment"], "spec", "selector", "matchLabels")} {
		if fmt.Sprint(selector) != fmt.Sprint(labels) {
			t.Errorf("selects %v, the pods have %v", selector, labels)
		}
	}
	values := make(map[string]string)
	for _, pair := range at(t, gate, "env").([]any) {
		values[at(t, pair, "name").(string)] = at(t, pair, "value").(string)
	}
	if !strings.HasPrefix(values["UPSTREAM"], "127.0.0.1:") || values["UPSTREAM"] != at(t, app, "env", 0, "value") {
		t.Errorf("the application is at %s", values["UPSTREAM"])
	}
	mounts := at(t, gate, "volumeMounts").([]any)
	if !slices.ContainsFunc(mounts, func(m any) bool { return at(t, m, "mountPath") == "/data" }) {
		t.Error("no volume")
	}
	sidecarTakes(t, values)
}

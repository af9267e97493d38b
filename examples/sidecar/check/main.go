// SPDX-License-Identifier: Apache-2.0

// Command check holds manifests to the schemas of what reads them: Compose files to
// the Compose specification's, others to those of Kubernetes. It is a module of its
// own, so that nobody who builds the gate gets what it needs.
//
//	go run . compose.yaml kubernetes.yaml
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

// Where the schemas that an API server of Kubernetes publishes (OpenAPI 3) lie: in a
// module of which no code is needed.
const (
	schemaModule = "sigs.k8s.io/kubectl-validate"
	schemaFolder = "pkg/openapiclient/builtins/1.30"
)

func main() {
	failed := false
	for _, name := range os.Args[1:] {
		check := checkKubernetes
		if strings.HasPrefix(filepath.Base(name), "compose") {
			check = checkCompose
		}
		if err := check(name); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			failed = true
		}
	}
	if failed || len(os.Args) < 2 {
		os.Exit(1)
	}
}

// checkCompose loads a file as `docker compose config` does.
func checkCompose(name string) error {
	options, err := cli.NewProjectOptions([]string{name}, cli.WithOsEnv, cli.WithName("check"), cli.WithInterpolation(true))
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	if len(project.Services) == 0 {
		return errors.New("has no service")
	}
	return nil
}

// checkKubernetes holds each document to the schema of its kind. A field that the
// schema does not have is an error.
func checkKubernetes(name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	listed, err := exec.Command("go", "mod", "download", "-json", schemaModule).Output()
	if err != nil {
		return fmt.Errorf("the schemas of Kubernetes: %w", err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(listed, &module); err != nil {
		return fmt.Errorf("the schemas of Kubernetes: %w", err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for count := 0; ; count++ {
		var document map[string]any
		if err := decoder.Decode(&document); errors.Is(err, io.EOF) && count > 0 {
			return nil
		} else if err != nil {
			return err
		}
		if err := checkObject(filepath.Join(module.Dir, schemaFolder), document); err != nil {
			return fmt.Errorf("document %d, %v: %w", count+1, document["kind"], err)
		}
	}
}

func checkObject(folder string, document map[string]any) error {
	group, version, grouped := strings.Cut(fmt.Sprint(document["apiVersion"]), "/")
	file := filepath.Join(folder, "apis", group, version+".json")
	if !grouped {
		file = filepath.Join(folder, "api", group+".json")
		group, version = "", group
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("apiVersion %v: %w", document["apiVersion"], err)
	}
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	schemas := schema.(map[string]any)["components"].(map[string]any)["schemas"].(map[string]any)
	target := ""
	for name, of := range schemas {
		forJSON(of)
		kinds, _ := of.(map[string]any)["x-kubernetes-group-version-kind"].([]any)
		for _, k := range kinds {
			if k := k.(map[string]any); k["group"] == group && k["version"] == version && k["kind"] == document["kind"] && len(kinds) == 1 {
				target = name
			}
		}
	}
	if target == "" {
		return errors.New("there is no such kind")
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("kubernetes.json", schema); err != nil {
		return err
	}
	compiled, err := compiler.Compile("kubernetes.json#/components/schemas/" + target)
	if err != nil {
		return err
	}
	// As JSON: YAML's integers are of another type.
	value, err := json.Marshal(document)
	if err != nil {
		return err
	}
	object, err := jsonschema.UnmarshalJSON(bytes.NewReader(value))
	if err != nil {
		return err
	}
	return compiled.Validate(object)
}

// forJSON makes of a schema of OpenAPI one of JSON Schema that takes no field which
// it does not name.
func forJSON(schema any) {
	switch schema := schema.(type) {
	case map[string]any:
		_, named := schema["properties"].(map[string]any)
		if _, open := schema["additionalProperties"]; named && !open && schema["type"] == "object" {
			schema["additionalProperties"] = false
		}
		for name, part := range schema {
			if name != "default" && name != "enum" {
				forJSON(part)
			}
		}
	case []any:
		for _, part := range schema {
			forJSON(part)
		}
	}
}

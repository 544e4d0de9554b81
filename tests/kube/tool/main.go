// What the tests need of Kubernetes' own tools, which are Go programs:
//
//	tool build DIRECTORY     prints what `kubectl kustomize DIRECTORY` prints
//	tool decode FILE...      decodes custom resources into their own types;
//	                         an unknown field, or one of another type, is an error
//	tool json FILE...        prints each document as JSON, one a line, as
//	                         kubectl understands it
//	tool match EXPRESSION    evaluates a webhook's match condition for each JSON
//	                         object of standard input, one a line
//
// Exit code 1 and a message where something is wrong.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/google/cel-go/cel"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	strict "sigs.k8s.io/yaml"
)

// The custom resources that manifests here use.
var kinds = map[string]func() any{
	"monitoring.coreos.com/v1/PodMonitor":     func() any { return &monitoring.PodMonitor{} },
	"monitoring.coreos.com/v1/PrometheusRule": func() any { return &monitoring.PrometheusRule{} },
	"cert-manager.io/v1/Certificate":          func() any { return &certmanager.Certificate{} },
	"cert-manager.io/v1/Issuer":               func() any { return &certmanager.Issuer{} },
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) < 2 {
		return errors.New("usage: tool build DIRECTORY | decode FILE... | json FILE... | match EXPRESSION")
	}
	switch arguments[0] {
	case "build":
		return build(arguments[1])
	case "decode":
		return each(arguments[1:], decode)
	case "json":
		return each(arguments[1:], print)
	case "match":
		return match(arguments[1])
	}
	return fmt.Errorf("unknown command %q", arguments[0])
}

func build(directory string) error {
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), directory)
	if err != nil {
		return err
	}
	text, err := made.AsYaml()
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}

func match(expression string) error {
	environment, err := cel.NewEnv(cel.Variable("object", cel.DynType))
	if err != nil {
		return err
	}
	checked, issues := environment.Compile(expression)
	if issues.Err() != nil {
		return issues.Err()
	}
	program, err := environment.Program(checked)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var object any
		if err := json.Unmarshal(lines.Bytes(), &object); err != nil {
			return err
		}
		result, _, err := program.Eval(map[string]any{"object": object})
		if err != nil {
			return err
		}
		fmt.Println(result.Value())
	}
	return lines.Err()
}

// each does something with every document of the files.
func each(files []string, do func(document []byte) error) error {
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		documents := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(content)))
		buffer := make([]byte, len(content)+1)
		for {
			n, err := documents.Read(buffer)
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = do(buffer[:n])
			}
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
		}
	}
	return nil
}

func print(document []byte) error {
	text, err := strict.YAMLToJSON(document)
	if err != nil {
		return err
	}
	fmt.Println(string(text))
	return nil
}

func decode(document []byte) error {
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name string `json:"name"`
		} `json:"metadata"`
	}
	if err := strict.Unmarshal(document, &head); err != nil {
		return err
	}
	kind, known := kinds[head.APIVersion+"/"+head.Kind]
	if !known {
		return nil
	}
	if err := strict.UnmarshalStrict(document, kind()); err != nil {
		return fmt.Errorf("%s %s: %w", head.Kind, head.Metadata.Name, err)
	}
	fmt.Printf("%s %s\n", head.Kind, head.Metadata.Name)
	return nil
}

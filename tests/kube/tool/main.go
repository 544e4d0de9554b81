// What the tests need of Kubernetes' own tools, which are Go programs:
//
//	tool build DIRECTORY     prints what `kubectl kustomize DIRECTORY` prints
//	tool decode FILE...      decodes custom resources into their own types;
//	                         an unknown field, or one of another type, is an error
//
// Exit code 1 and a message where something is wrong.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
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
		return errors.New("usage: tool build DIRECTORY | tool decode FILE...")
	}
	switch arguments[0] {
	case "build":
		return build(arguments[1])
	case "decode":
		for _, file := range arguments[1:] {
			if err := decode(file); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
		}
		return nil
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

func decode(file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	documents := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(content)))
	defer documents.Close()
	buffer := make([]byte, len(content)+1)
	for {
		n, err := documents.Read(buffer)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var head struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Metadata   struct {
				Name string `json:"name"`
			} `json:"metadata"`
		}
		if err := strict.Unmarshal(buffer[:n], &head); err != nil {
			return err
		}
		kind, known := kinds[head.APIVersion+"/"+head.Kind]
		if !known {
			continue
		}
		if err := strict.UnmarshalStrict(buffer[:n], kind()); err != nil {
			return fmt.Errorf("%s %s: %w", head.Kind, head.Metadata.Name, err)
		}
		fmt.Printf("%s %s\n", head.Kind, head.Metadata.Name)
	}
}

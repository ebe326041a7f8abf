package stack

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const (
	fieldManager = "orkestra-local"
	nodeName     = "local"
	webhookPath  = "/validate-orkestra-azure-microsoft-com-v1alpha1-applicationgroup"
	stampPath    = "/mutate-orkestra-azure-microsoft-com-v1alpha1-applicationgroup"
)

var (
	crds  = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	nodes = corev1.SchemeGroupVersion.WithResource("nodes")
)

// bootstrap puts into the cluster what the controllers need before they start: CRDs, admission policies, namespaces,
// Argo's configuration, and, where our services run, the admission webhook. It can be repeated.
func (s *Stack) bootstrap(ctx context.Context, client dynamic.Interface, manifests []string, webhookURL string) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, f := range manifests {
		g.Go(func() error { return applyFile(gctx, client, f) })
	}
	g.Go(func() error {
		for _, name := range []string{Namespace, fluxNamespace} {
			if err := apply(gctx, client, &corev1.Namespace{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: name},
			}); err != nil {
				return err
			}
		}
		// Argo insists on it. Nobody reads the Kubernetes events of its nodes, and they were more than half of the API
		// server's work on a wide graph.
		if err := apply(gctx, client, &corev1.ConfigMap{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
			ObjectMeta: metav1.ObjectMeta{Name: "workflow-controller-configmap", Namespace: Namespace},
			Data:       map[string]string{"nodeEvents": "enabled: false\n", "workflowEvents": "enabled: false\n"},
		}); err != nil {
			return err
		}
		return s.provideMuseumSecret(gctx, client)
	})
	if webhookURL != "" {
		g.Go(func() error {
			ca, err := os.ReadFile(s.layout.pki("ca.crt"))
			if err != nil {
				return fmt.Errorf("reading the certificate authority: %w", err)
			}
			if err := apply(gctx, client, stamping(webhookURL, ca)); err != nil {
				return err
			}
			return apply(gctx, client, admission(webhookURL, ca))
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return awaitEstablished(ctx, client)
}

// admission makes the API server ask intake about every ApplicationGroup. It fails open: a group that nobody could look
// at is still refused by intake when it sees it.
func admission(url string, ca []byte) *admissionv1.ValidatingWebhookConfiguration {
	return &admissionv1.ValidatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingWebhookConfiguration"},
		ObjectMeta: metav1.ObjectMeta{Name: "orkestra"},
		Webhooks: []admissionv1.ValidatingWebhook{{
			Name:         "applicationgroups.orkestra.azure.microsoft.com",
			ClientConfig: admissionv1.WebhookClientConfig{URL: new(url + webhookPath), CABundle: ca},
			Rules:        groupsWritten(),
			MatchConditions: []admissionv1.MatchCondition{{
				Name: "another-spec", Expression: "request.operation != 'UPDATE' || object.metadata.generation != oldObject.metadata.generation",
			}},
			FailurePolicy:           new(admissionv1.Ignore),
			SideEffects:             new(admissionv1.SideEffectClassNone),
			TimeoutSeconds:          new(int32(5)),
			AdmissionReviewVersions: []string{"v1"},
		}},
	}
}

// stamping makes the API server have intake write down who changes an ApplicationGroup.
func stamping(url string, ca []byte) *admissionv1.MutatingWebhookConfiguration {
	return &admissionv1.MutatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "MutatingWebhookConfiguration"},
		ObjectMeta: metav1.ObjectMeta{Name: "orkestra"},
		Webhooks: []admissionv1.MutatingWebhook{{
			Name:                    "changed-by.applicationgroups.orkestra.azure.microsoft.com",
			ClientConfig:            admissionv1.WebhookClientConfig{URL: new(url + stampPath), CABundle: ca},
			Rules:                   groupsWritten(),
			FailurePolicy:           new(admissionv1.Ignore),
			ReinvocationPolicy:      new(admissionv1.IfNeededReinvocationPolicy),
			SideEffects:             new(admissionv1.SideEffectClassNone),
			TimeoutSeconds:          new(int32(5)),
			AdmissionReviewVersions: []string{"v1"},
		}},
	}
}

func groupsWritten() []admissionv1.RuleWithOperations {
	return []admissionv1.RuleWithOperations{{
		Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
		Rule: admissionv1.Rule{APIGroups: []string{"orkestra.azure.microsoft.com"}, APIVersions: []string{"v1alpha1"},
			Resources: []string{"applicationgroups"}},
	}}
}

// createNode makes the one node, on which kwok plays the pods. It is roomy, so that no chart's requests go unmet.
func createNode(ctx context.Context, client dynamic.Interface) error {
	room := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("1000"), corev1.ResourceMemory: resource.MustParse("4Ti"),
		corev1.ResourceEphemeralStorage: resource.MustParse("4Ti"), corev1.ResourcePods: resource.MustParse("10000"),
	}
	u, err := toUnstructured(&corev1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: nodeName, Labels: map[string]string{
			corev1.LabelHostname: nodeName, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64"}},
		Status: corev1.NodeStatus{Allocatable: room, Capacity: room},
	})
	if err != nil {
		return err
	}
	// Created, not applied: applying drops the status, and from then on the node is kwok's.
	_, err = client.Resource(nodes).Create(ctx, u, metav1.CreateOptions{FieldManager: fieldManager})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating the node: %w", err)
	}
	return nil
}

// apply puts a typed object in place by server-side apply.
func apply(ctx context.Context, client dynamic.Interface, obj runtime.Object) error {
	u, err := toUnstructured(obj)
	if err != nil {
		return err
	}
	return applyUnstructured(ctx, client, u)
}

func toUnstructured(obj runtime.Object) (*unstructured.Unstructured, error) {
	o, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, fmt.Errorf("converting a %T: %w", obj, err)
	}
	return &unstructured.Unstructured{Object: o}, nil
}

// applyFile applies every document of a YAML file.
func applyFile(ctx context.Context, client dynamic.Interface, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening a manifest: %w", err)
	}
	defer f.Close()
	for d := yaml.NewYAMLOrJSONDecoder(f, 4096); ; {
		var u unstructured.Unstructured
		err := d.Decode(&u)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", path, err)
		}
		// A document of comments only, such as a licence.
		if len(u.Object) == 0 {
			continue
		}
		if err := applyUnstructured(ctx, client, &u); err != nil {
			return fmt.Errorf("applying %s: %w", filepath.Base(path), err)
		}
	}
}

func applyUnstructured(ctx context.Context, client dynamic.Interface, u *unstructured.Unstructured) error {
	// A guess that is right for the few built-in kinds that are applied here, and saves asking the API server.
	gvr, _ := meta.UnsafeGuessKindToResource(u.GroupVersionKind())
	unstructured.RemoveNestedField(u.Object, "status")
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	var to dynamic.ResourceInterface = client.Resource(gvr)
	if ns := u.GetNamespace(); ns != "" {
		to = client.Resource(gvr).Namespace(ns)
	}
	_, err := to.Apply(ctx, u.GetName(), u, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	if err != nil {
		return fmt.Errorf("applying %s %s: %w", u.GetKind(), u.GetName(), err)
	}
	return nil
}

// awaitEstablished waits until the API server serves every CRD.
func awaitEstablished(ctx context.Context, client dynamic.Interface) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		list, err := client.Resource(crds).List(ctx, metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("listing CRDs: %w", err)
		}
		var waiting string
		for _, crd := range list.Items {
			if !isTrue(crd, "Established") {
				waiting = crd.GetName()
			}
		}
		if waiting == "" {
			return nil
		}
		if err := pause(ctx, probeInterval); err != nil {
			return fmt.Errorf("waiting for the CRD %s to be established: %w", waiting, err)
		}
	}
}

// awaitNode waits until pods can be scheduled.
func awaitNode(ctx context.Context, client dynamic.Interface) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		node, err := client.Resource(nodes).Get(ctx, nodeName, metav1.GetOptions{})
		// A kubelet brings its node.
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("looking at the node: %w", err)
		}
		if err == nil && isTrue(*node, "Ready") {
			return nil
		}
		if err := pause(ctx, probeInterval); err != nil {
			return fmt.Errorf("waiting for the node to be ready: %w", err)
		}
	}
}

// isTrue tells whether the object's condition of that type is True.
func isTrue(u unstructured.Unstructured, condition string) bool {
	conditions, _, err := unstructured.NestedSlice(u.Object, "status", "conditions")
	if err != nil {
		return false
	}
	for _, c := range conditions {
		if m, ok := c.(map[string]any); ok && m["type"] == condition && m["status"] == "True" {
			return true
		}
	}
	return false
}

// writeKubeconfig writes the administrator's kubeconfig, certificates inside, so that it can be carried elsewhere.
func writeKubeconfig(l layout, server string) error {
	config := clientcmdapi.NewConfig()
	const name = "orkestra-local"
	ca, errCA := os.ReadFile(l.pki("ca.crt"))
	crt, errCrt := os.ReadFile(l.pki("admin.crt"))
	key, errKey := os.ReadFile(l.pki("admin.key"))
	if err := errors.Join(errCA, errCrt, errKey); err != nil {
		return fmt.Errorf("reading the administrator's certificate: %w", err)
	}
	config.Clusters[name] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificateData: crt, ClientKeyData: key}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	b, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("writing the kubeconfig: %w", err)
	}
	return writeFile(l.path("kubeconfig"), b, 0o600)
}

// RESTConfig is the administrator's access to the cluster, without a limit of requests.
func (s *Stack) RESTConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config.QPS = -1
	return config, nil
}

func (s *Stack) client() (dynamic.Interface, error) {
	config, err := s.RESTConfig()
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	return client, nil
}

// prober is the client that asks processes for their health; it trusts the stack's authority.
func prober(l layout) (*http.Client, error) {
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(l.pki("ca.crt"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("reading the certificate authority: %w", err)
	}
	roots.AppendCertsFromPEM(ca)
	return &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13},
			// A probe says whether the process of now answers, not whether one of before left a connection.
			DisableKeepAlives: true,
		},
	}, nil
}

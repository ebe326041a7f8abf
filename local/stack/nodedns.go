package stack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
)

const (
	clusterDomain = "cluster.local"
	// dnsClusterIP is where pods ask: the tenth address of Services, as nearly every cluster has it.
	dnsClusterIP = "10.96.0.10"
	dnsService   = "kube-dns"
	dnsUser      = "system:coredns"

	// diskCount is how many claims for disks can be bound until the stack is wiped.
	diskCount    = 12
	diskSize     = "20Gi"
	storageClass = "local"
)

// disks are the folders, below that of the node, in which volumes are.
func disks() []string {
	out := make([]string, diskCount)
	for i := range out {
		out[i] = filepath.Join("disks", diskName(i))
	}
	return out
}

func diskName(i int) string { return fmt.Sprintf("disk-%d", i) }

var nameserver = regexp.MustCompile(`(?m)^\s*nameserver\s`)

// hostResolver is the file that says whom this machine asks for names, or empty where it asks nobody.
func hostResolver() (string, error) {
	const path = "/etc/resolv.conf"
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading whom this machine asks for names: %w", err)
	}
	if !nameserver.Match(b) {
		return "", nil
	}
	return path, nil
}

// furnish gives the cluster what a real one comes with: DNS, what enforces NetworkPolicies, and disks of a default
// StorageClass.
func (n *node) furnish(ctx context.Context, client dynamic.Interface) error {
	// It is made by the API server itself, a moment after that is ready.
	if err := apply(ctx, client, &corev1.Namespace{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: metav1.NamespaceSystem},
	}); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, obj := range slices.Concat(dnsObjects(int32(n.dnsPort)), policyObjects(), n.diskObjects()) {
		g.Go(func() error { return apply(ctx, client, obj) })
	}
	return g.Wait()
}

// dnsObjects are the Service that pods ask, with CoreDNS on the bridge behind it, and what CoreDNS may read.
func dnsObjects(port int32) []runtime.Object {
	meta := metav1.ObjectMeta{Name: dnsService, Namespace: metav1.NamespaceSystem, Labels: map[string]string{"k8s-app": dnsService}}
	slice := *meta.DeepCopy()
	slice.Labels[discoveryv1.LabelServiceName] = dnsService
	slice.Labels[discoveryv1.LabelManagedBy] = fieldManager
	service := &corev1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: meta,
		Spec: corev1.ServiceSpec{ClusterIP: dnsClusterIP},
	}
	endpoints := &discoveryv1.EndpointSlice{
		TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"}, ObjectMeta: slice,
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{nodeIP}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}},
	}
	for _, p := range []corev1.ServicePort{{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53}, {Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: 53}} {
		service.Spec.Ports = append(service.Spec.Ports, p)
		endpoints.Ports = append(endpoints.Ports, discoveryv1.EndpointPort{Name: &p.Name, Protocol: &p.Protocol, Port: &port})
	}
	return append([]runtime.Object{service, endpoints}, mayDo(dnsUser,
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"services", "namespaces"}, Verbs: []string{"list", "watch"}},
		rbacv1.PolicyRule{APIGroups: []string{discoveryv1.GroupName}, Resources: []string{"endpointslices"}, Verbs: []string{"list", "watch"}},
	)...)
}

// mayDo is a role of a user's name, and that the user has it.
func mayDo(user string, rules ...rbacv1.PolicyRule) []runtime.Object {
	meta := metav1.ObjectMeta{Name: user}
	return []runtime.Object{&rbacv1.ClusterRole{
		TypeMeta: metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"}, ObjectMeta: meta, Rules: rules,
	}, &rbacv1.ClusterRoleBinding{
		TypeMeta: metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRoleBinding"}, ObjectMeta: meta,
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}}
}

// diskObjects are the default StorageClass and its volumes: folders of this machine, which the kubelet gives to the group
// of the pod that mounts them.
func (n *node) diskObjects() []runtime.Object {
	out := []runtime.Object{&storagev1.StorageClass{
		TypeMeta:          metav1.TypeMeta{APIVersion: storagev1.SchemeGroupVersion.String(), Kind: "StorageClass"},
		ObjectMeta:        metav1.ObjectMeta{Name: storageClass, Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}},
		Provisioner:       "kubernetes.io/no-provisioner",
		ReclaimPolicy:     new(corev1.PersistentVolumeReclaimRetain),
		VolumeBindingMode: new(storagev1.VolumeBindingWaitForFirstConsumer),
	}}
	for i, dir := range disks() {
		out = append(out, &corev1.PersistentVolume{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolume"}, ObjectMeta: metav1.ObjectMeta{Name: diskName(i)},
			Spec: corev1.PersistentVolumeSpec{
				StorageClassName: storageClass, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
				Capacity:               corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(diskSize)},
				AccessModes:            []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: n.layout.node(dir)}},
				NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
					MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{nodeName}}},
				}}}},
			},
		})
	}
	return out
}

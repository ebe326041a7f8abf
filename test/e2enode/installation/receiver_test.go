package installation

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/test/e2enode/realnode"
)

const (
	// webhookCertificate is the Secret of the certificate that the chart makes for the Service of intake.
	webhookCertificate = "orkestra-webhook"
	webhookHost        = "orkestra-intake.orkestra.svc"
	webhookToken       = "known to the sender and to the Receiver"
)

// webhooks: a push that GitHub has signed, by TLS to the Service of intake, makes a rollout of the version that is new in the
// repository; with another signature, by plain HTTP, or to who does not trust the chart's authority nothing is delivered.
func (i *installation) webhooks(t *testing.T) {
	manifest := strings.Replace(string(i.chain("hooked", "event", 1)), "version: 1.0.0", `version: "1.x"`, 1)
	g := i.RollOut(t, []byte(manifest))
	path := i.receiver(t, g.Name)
	sender := i.sender(t)
	url := "https://" + webhookHost + path
	if err := i.repository.Add(small, "1.1.0", smallFiles); err != nil {
		t.Fatal(err)
	}

	if status, err := push(t.Context(), sender, url, "of somebody else"); err != nil || status != http.StatusUnauthorized {
		t.Errorf("a delivery with another's signature is answered with %d: %v", status, err)
	}
	if status, err := push(t.Context(), sender, "http://"+webhookHost+path, webhookToken); err != nil || status != http.StatusBadRequest {
		t.Errorf("a delivery by plain HTTP is answered with %d: %v", status, err)
	}
	stranger := &http.Client{Timeout: sender.Timeout, Transport: &http.Transport{DialContext: sender.Transport.(*http.Transport).DialContext}}
	if _, err := push(t.Context(), stranger, url, webhookToken); err == nil || !strings.Contains(err.Error(), "x509") {
		t.Errorf("who does not trust the authority delivers all the same: %v", err)
	}
	if err := i.Client.Get(t.Context(), client.ObjectKeyFromObject(g), g); err != nil {
		t.Fatal(err)
	}
	if asked := g.Annotations[v1alpha1.AnnotationRequestedAt]; asked != "" || len(i.workflows(t, g.Name)) != 1 {
		t.Errorf("a delivery that was refused made a rollout: %q, workflows %q", asked, i.workflows(t, g.Name))
	}

	if status, err := push(t.Context(), sender, url, webhookToken); err != nil || status != http.StatusAccepted {
		t.Fatalf("a signed delivery is answered with %d: %v", status, err)
	}
	realnode.Poll(t, "the rollout that was asked for", func(ctx context.Context) error {
		if err := i.Client.Get(ctx, client.ObjectKeyFromObject(g), g); err != nil {
			return err
		}
		rolledOut := realnode.Ready(g) && g.Status.LastHandledReconcileAt != ""
		if hr := i.Releases(t, g.Name); !rolledOut || len(hr) != 1 || hr[0].Status.History.Latest().ChartVersion != "1.1.0" {
			return fmt.Errorf("conditions %+v, handled %q, %d releases", g.Status.Conditions, g.Status.LastHandledReconcileAt, len(hr))
		}
		return nil
	})
	if workflows := i.workflows(t, g.Name); len(workflows) != 2 {
		t.Errorf("the group has had the workflows %q, want one for the delivery", workflows)
	}
	i.Remove(t, g)
}

// receiver of GitHub's webhooks for a group, and its path.
func (i *installation) receiver(t *testing.T, group string) string {
	t.Helper()
	token := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "github"}, StringData: map[string]string{v1alpha1.SecretKeyToken: webhookToken},
	}
	receiver := &v1alpha1.Receiver{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "github"}, Spec: v1alpha1.ReceiverSpec{
		Type: v1alpha1.ReceiverGitHub, SecretRef: v1alpha1.ReceiverSecretRef{Name: token.Name}, Groups: v1alpha1.ReceiverGroups{Names: []string{group}},
	}}
	for _, o := range []client.Object{token, receiver} {
		if err := i.Client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := i.Client.Delete(context.WithoutCancel(t.Context()), o); err != nil {
				t.Error(err)
			}
		})
	}
	realnode.Poll(t, "the Receiver to have a path", func(ctx context.Context) error {
		if err := i.Client.Get(ctx, client.ObjectKeyFromObject(receiver), receiver); err != nil {
			return err
		}
		if receiver.Status.WebhookPath == "" {
			return fmt.Errorf("it has none: %+v", receiver.Status)
		}
		return nil
	})
	return receiver.Status.WebhookPath
}

// sender reaches the Service of intake by its name, and trusts the chart's authority and no other.
func (i *installation) sender(t *testing.T) *http.Client {
	t.Helper()
	var certificate corev1.Secret
	if err := i.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: webhookCertificate}, &certificate); err != nil {
		t.Fatal(err)
	}
	authority := x509.NewCertPool()
	if !authority.AppendCertsFromPEM(certificate.Data["ca.crt"]) {
		t.Fatalf("Secret %s has no authority", webhookCertificate)
	}
	var service corev1.Service
	if err := i.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "orkestra-intake"}, &service); err != nil {
		t.Fatal(err)
	}
	// The node resolves no names of the cluster.
	address := net.JoinHostPort(service.Spec.ClusterIP, "8443")
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: authority},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}}
}

// push as GitHub delivers it, signed with the token, and return the status of the answer.
func push(ctx context.Context, sender *http.Client, url, token string) (status int, err error) {
	const body = `{"ref":"refs/heads/main"}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte(body)) // a hash takes everything
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-GitHub-Event", "push")
	req.Header.Set("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")
	req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	resp, err := sender.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

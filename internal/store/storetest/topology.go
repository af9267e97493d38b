// SPDX-License-Identifier: Apache-2.0

package storetest

// This file runs Redis as those do who have more than one, or don't trust the way
// to it.

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/testnet"
)

// ClusterRights is what the gate's user needs in a cluster, beside Rights.
const ClusterRights = " +cluster|slots"

// SentinelRights is what the user needs that the sentinels are asked as.
const SentinelRights = "&* +ping +subscribe +sentinel|get-master-addr-by-name +sentinel|sentinels"

// StartRedisWithTLS starts one that speaks nothing but TLS. The certificate's
// issuer is in the file that it returns.
func StartRedisWithTLS(t testing.TB) (r *Redis, authority string) {
	t.Helper()
	r = newRedis(t)
	authority = r.certificates()
	r.configure(fmt.Sprintf("port 0\ntls-port %s\ntls-cert-file %[2]s/cert\ntls-key-file %[2]s/key\ntls-ca-cert-file %[3]s\ntls-auth-clients no", r.Port, r.Dir, authority), Rights)
	r.Start()
	return r, authority
}

// certificates makes an issuer and what it issues.
func (r *Redis) certificates() (authority string) {
	r.t.Helper()
	write := func(name, kind string, content []byte) string {
		path := filepath.Join(r.Dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
			r.t.Fatal(err)
		}
		return path
	}
	issuerKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	issuer := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Redis tests"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	own := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Redis"},
		NotBefore: issuer.NotBefore, NotAfter: issuer.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	issuerDER, err := x509.CreateCertificate(rand.Reader, issuer, issuer, issuerKey.Public(), issuerKey)
	if err != nil {
		r.t.Fatal(err)
	}
	ownDER, err := x509.CreateCertificate(rand.Reader, own, issuer, key.Public(), issuerKey)
	if err != nil {
		r.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		r.t.Fatal(err)
	}
	write("key", "PRIVATE KEY", keyDER)
	write("cert", "CERTIFICATE", ownDER)
	return write("authority", "CERTIFICATE", issuerDER)
}

// Sentinels is one that watches over a master and a replica.
type Sentinels struct {
	Master, Replica, Sentinel *Redis
}

// StartSentinels starts all three.
func StartSentinels(t testing.TB) *Sentinels {
	t.Helper()
	s := &Sentinels{newRedis(t), newRedis(t), newRedis(t)}
	s.Replica.Password, s.Replica.self = s.Master.Password, s.Master.self
	login := fmt.Sprintf("\nmasteruser %s\nmasterauth %s\nrepl-diskless-sync-delay 0", self, s.Master.self)
	s.Master.configure("port "+s.Master.Port+login, Rights)
	s.Replica.configure("port "+s.Replica.Port+login+"\nreplicaof 127.0.0.1 "+s.Master.Port, Rights)
	s.Master.Start()
	s.Replica.Start()
	s.Replica.await("it has what the master has", func() bool {
		return strings.Contains(s.Replica.Do("INFO", "replication").(string), "master_link_status:up")
	})
	s.Sentinel.configure(fmt.Sprintf("port %s\nsentinel monitor gate 127.0.0.1 %s 1\nsentinel auth-user gate %s\nsentinel auth-pass gate %s\n"+
		"sentinel down-after-milliseconds gate 1000\nsentinel failover-timeout gate 5000",
		s.Sentinel.Port, s.Master.Port, self, s.Master.self), SentinelRights)
	s.Sentinel.args = []string{"--sentinel"}
	s.Sentinel.Start()
	for _, what := range []string{"info", "ping", "ask", "publish"} {
		s.Sentinel.Do("SENTINEL", "DEBUG", what+"-period", 200)
	}
	s.Sentinel.await("it knows of the replica", func() bool {
		return strings.Contains(fmt.Sprint(s.Sentinel.Do("SENTINEL", "REPLICAS", "gate")), s.Replica.Port)
	})
	return s
}

// URL is where they are, with users and passwords of the sentinel and the master.
func (s *Sentinels) URL() string {
	return "redis://caddy:" + s.Sentinel.Password + "@127.0.0.1:" + s.Sentinel.Port + "/0?master_name=gate&username=caddy&password=" + s.Master.Password
}

// StartCluster starts one of three masters.
func StartCluster(t testing.TB) []*Redis {
	t.Helper()
	const slots = 16384
	var nodes []*Redis
	var buses []string
	for range 3 {
		node, bus := newRedis(t), testnet.Port(t)
		if len(nodes) > 0 {
			node.Password = nodes[0].Password
		}
		node.configure("port "+node.Port+"\ncluster-enabled yes\ncluster-node-timeout 500\ncluster-port "+bus, Rights+ClusterRights)
		node.Start()
		nodes, buses = append(nodes, node), append(buses, bus)
	}
	for i, node := range nodes {
		node.Do("CLUSTER", "ADDSLOTSRANGE", i*slots/3, (i+1)*slots/3-1)
		if i > 0 {
			node.Do("CLUSTER", "MEET", "127.0.0.1", nodes[0].Port, buses[0])
		}
	}
	for _, node := range nodes {
		node.await("the cluster is whole", func() bool {
			info := node.Do("CLUSTER", "INFO").(string)
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:"+strconv.Itoa(len(nodes)))
		})
	}
	// From now on none is given up because the machine is busy.
	for _, node := range nodes {
		node.Do("CONFIG", "SET", "cluster-node-timeout", 60_000)
	}
	return nodes
}

// ClusterURL is where its nodes are, but for the last.
func ClusterURL(nodes []*Redis) string { return nodes[0].URL() + "?addr=127.0.0.1:" + nodes[1].Port }

func (r *Redis) await(what string, condition func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("did not happen in time: %s", what)
		}
	}
}

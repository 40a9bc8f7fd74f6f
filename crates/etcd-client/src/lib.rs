//! etcd-client

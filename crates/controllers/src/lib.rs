//! Kubernetes controllers, one folder each.

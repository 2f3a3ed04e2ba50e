//! millstream-cluster

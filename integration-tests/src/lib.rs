//! millstream-integration-tests

//! Node.

use crate::kinds::Strategy;

pub(crate) struct Node;

impl Strategy for Node {}

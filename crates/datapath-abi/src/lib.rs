//! The layouts that the eBPF programs and the process share, written once.
//!
//! ```text
//!   layouts! ──▶ Rust structs with to_bytes / from_bytes
//!            └─▶ c_header(): the same structs for clang, with static assertions on sizes and offsets
//! ```
//!
//! Addresses and ports are in network byte order, as the kernel's hooks give them; everything else is in the machine's
//! own order. Every byte of a key is a named field, because the kernel compares keys as bytes: padding would be noise.
//! Knows no kernel call and no map handle.

/// Counts changes of the layouts that an older process's pinned maps would not survive.
pub const ABI_VERSION: u32 = 1;

/// Frontends: cluster IP, external IP and node port, each with its protocol.
pub const MAX_SERVICES: u32 = 65_536;
/// Backends of all services together.
pub const MAX_BACKENDS: u32 = 262_144;
/// Sockets whose original destination is remembered.
pub const MAX_FLOWS: u32 = 65_536;
/// Clients that stick to a backend (`sessionAffinity: ClientIP`).
pub const MAX_AFFINITY: u32 = 65_536;
/// Addresses of the node itself.
pub const MAX_NODE_ADDRESSES: u32 = 1_024;

/// [`Service::flags`]: clients stick to a backend for [`Service::affinity_seconds`].
pub const SERVICE_AFFINITY: u32 = 1;

trait Field: Sized {
    const C_TYPE: &'static str;
}

impl Field for u8 {
    const C_TYPE: &'static str = "__u8";
}
impl Field for u16 {
    const C_TYPE: &'static str = "__u16";
}
impl Field for u32 {
    const C_TYPE: &'static str = "__u32";
}
impl Field for u64 {
    const C_TYPE: &'static str = "__u64";
}

macro_rules! layouts {
    ($($(#[$doc:meta])* struct $name:ident as $c_name:literal { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
            pub struct $name { $($(#[$field_doc])* pub $field: $ty,)* }

            impl $name {
                /// Size in bytes, the same on both sides.
                pub const SIZE: usize = std::mem::size_of::<$name>();

                /// The bytes as the kernel sees them.
                pub fn to_bytes(&self) -> [u8; Self::SIZE] {
                    let mut bytes = [0; Self::SIZE];
                    $({
                        let at = std::mem::offset_of!($name, $field);
                        let value = self.$field.to_ne_bytes();
                        bytes[at..at + value.len()].copy_from_slice(&value);
                    })*
                    bytes
                }

                /// The other way round.
                pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
                    $name { $($field: {
                        let at = std::mem::offset_of!($name, $field);
                        let mut value = [0; std::mem::size_of::<$ty>()];
                        let end = at + value.len();
                        value.copy_from_slice(&bytes[at..end]);
                        <$ty>::from_ne_bytes(value)
                    },)* }
                }
            }

            // A hole between fields would be bytes that nobody sets.
            const _: () = assert!($name::SIZE == 0 $(+ std::mem::size_of::<$ty>())*);
        )*

        /// The header that the eBPF programs include.
        pub fn c_header() -> String {
            let mut text = String::from("/* Generated from the crate datapath-abi. */\n#pragma once\n");
            for (name, value) in CONSTANTS {
                text.push_str(&format!("#define {name} {value}\n"));
            }
            $(
                text.push_str(&format!("struct {} {{\n", $c_name));
                $(text.push_str(&format!("\t{} {};\n", <$ty as Field>::C_TYPE, stringify!($field)));)*
                text.push_str("};\n");
                text.push_str(&format!("_Static_assert(sizeof(struct {}) == {}, \"size\");\n", $c_name, $name::SIZE));
                $(text.push_str(&format!(
                    "_Static_assert(__builtin_offsetof(struct {}, {}) == {}, \"offset\");\n",
                    $c_name, stringify!($field), std::mem::offset_of!($name, $field)
                ));)*
            )*
            text
        }
    };
}

const CONSTANTS: &[(&str, u32)] = &[
    ("MAX_SERVICES", MAX_SERVICES),
    ("MAX_BACKENDS", MAX_BACKENDS),
    ("MAX_FLOWS", MAX_FLOWS),
    ("MAX_AFFINITY", MAX_AFFINITY),
    ("MAX_NODE_ADDRESSES", MAX_NODE_ADDRESSES),
    ("SERVICE_AFFINITY", SERVICE_AFFINITY),
];

layouts! {
    /// What a client dials. Address 0 stands for every address of the node (node ports).
    struct Frontend as "frontend" {
        /// Network byte order.
        address: u32,
        /// Network byte order.
        port: u16,
        /// `IPPROTO_TCP`, `IPPROTO_UDP` or `IPPROTO_SCTP`.
        protocol: u16,
    }

    /// What stands behind a frontend. Frontends of one service port share the id and with it the backends.
    struct Service as "service" {
        id: u32,
        /// Backends in the slots 0 to `count` - 1. None: the connection is refused.
        count: u32,
        flags: u32,
        affinity_seconds: u32,
    }

    /// The place of a backend.
    struct Slot as "slot" {
        service: u32,
        index: u32,
    }

    /// Where a connection goes.
    struct Backend as "backend" {
        /// Network byte order.
        address: u32,
        /// Network byte order.
        port: u16,
        unused: u16,
    }

    /// A backend as a member of a service: asked when a client sticks to a backend that may be gone.
    struct Member as "member" {
        service: u32,
        address: u32,
        port: u16,
        unused: u16,
    }

    /// A socket and the backend that it talks to.
    struct Flow as "flow" {
        cookie: u64,
        address: u32,
        port: u16,
        unused: u16,
    }

    /// Who sticks to a backend: everything in one network namespace has one source address.
    struct Client as "client" {
        netns: u64,
        service: u32,
        unused: u32,
    }

    /// The backend that a client sticks to.
    struct Sticky as "sticky" {
        /// Nanoseconds since boot.
        last_used: u64,
        address: u32,
        port: u16,
        unused: u16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_back() {
        let frontend = Frontend { address: u32::from_ne_bytes([10, 43, 0, 1]), port: 443u16.to_be(), protocol: 6 };
        let bytes = frontend.to_bytes();
        assert_eq!(bytes[..6], [10, 43, 0, 1, 1, 187]);
        assert_eq!(Frontend::from_bytes(&bytes), frontend);
        let flow = Flow { cookie: u64::MAX - 1, address: 7, port: 9, unused: 0 };
        assert_eq!(Flow::from_bytes(&flow.to_bytes()), flow);
    }

    #[test]
    fn the_header_states_every_offset() {
        let header = c_header();
        assert!(
            header.contains("struct frontend {\n\t__u32 address;\n\t__u16 port;\n\t__u16 protocol;\n};"),
            "{header}"
        );
        assert!(header.contains("_Static_assert(__builtin_offsetof(struct sticky, port) == 12, \"offset\");"));
    }
}

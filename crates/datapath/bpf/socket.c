// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/*
 * Service addresses are translated where a socket names its peer: at connect and sendmsg the service's address becomes
 * a backend's, at recvmsg and getpeername it is turned back. Packets on the wire only ever carry real addresses, so no
 * connection tracking is needed, and a connection keeps its backend for life.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

char LICENSE[] SEC("license") = "GPL";

#define ECONNREFUSED 111
#define NANOSECONDS 1000000000ULL
/* What the hooks return: go on (perhaps with another address), or fail the call. */
#define PROCEED 1
#define FAIL 0

/* Set by the loader: in this network namespace a loopback address is an address of the node. */
volatile const __u64 host_netns = 0;

#define HASH(map_name, key_type, value_type, size)                                                                     \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_HASH);                                                                       \
		__uint(max_entries, size);                                                                             \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                                                  \
		__type(key, key_type);                                                                                 \
		__type(value, value_type);                                                                             \
	} map_name SEC(".maps")

#define LRU(map_name, key_type, value_type, size)                                                                      \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_LRU_HASH);                                                                   \
		__uint(max_entries, size);                                                                             \
		__type(key, key_type);                                                                                 \
		__type(value, value_type);                                                                             \
	} map_name SEC(".maps")

HASH(services, struct frontend, struct service, MAX_SERVICES);
HASH(backends, struct slot, struct backend, MAX_BACKENDS);
HASH(members, struct member, __u32, MAX_BACKENDS);
HASH(node_addresses, __u32, __u32, MAX_NODE_ADDRESSES);
LRU(flows, struct flow, struct backend, MAX_FLOWS);
LRU(affinity, struct client, struct sticky, MAX_AFFINITY);

static __always_inline int is_loopback(__u32 address)
{
	return (address & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
}

static __always_inline struct service *find_service(struct bpf_sock_addr *ctx, __u32 address, __u16 port)
{
	struct frontend key = {.address = address, .port = port, .protocol = ctx->protocol};
	struct service *found = bpf_map_lookup_elem(&services, &key);
	if (found)
		return found;
	/* A node port answers at every address of the node; loopback is the node's only in the node's own namespace. */
	if (is_loopback(address)) {
		if (bpf_get_netns_cookie(ctx) != host_netns)
			return 0;
	} else if (!bpf_map_lookup_elem(&node_addresses, &address)) {
		return 0;
	}
	key.address = 0;
	return bpf_map_lookup_elem(&services, &key);
}

static __always_inline struct backend *slot_of(__u32 service, __u32 index)
{
	struct slot key = {.service = service, .index = index};
	return bpf_map_lookup_elem(&backends, &key);
}

/* Returns 0 when the service has no backend. */
static __always_inline int choose(struct bpf_sock_addr *ctx, struct service *service, struct backend *chosen)
{
	struct client client = {.service = service->id};
	int sticky = service->flags & SERVICE_AFFINITY;
	__u64 now = 0;

	if (service->count == 0)
		return 0;
	if (sticky) {
		client.netns = bpf_get_netns_cookie(ctx);
		now = bpf_ktime_get_boot_ns();
		struct sticky *last = bpf_map_lookup_elem(&affinity, &client);
		if (last && now - last->last_used < service->affinity_seconds * NANOSECONDS) {
			struct member member = {.service = service->id, .address = last->address, .port = last->port};
			if (bpf_map_lookup_elem(&members, &member)) {
				chosen->address = last->address;
				chosen->port = last->port;
				last->last_used = now;
				return 1;
			}
		}
	}
	/* Datagrams of one socket stay with one backend while the set stands still; each stream draws anew. */
	__u32 draw = ctx->protocol == IPPROTO_UDP ? (__u32)((bpf_get_socket_cookie(ctx) * 0x9E3779B97F4A7C15ULL) >> 32)
						  : bpf_get_prandom_u32();
	struct backend *backend = slot_of(service->id, draw % service->count);
	/* The last slot may have been removed after the count was read; slot 0 is the last one to go. */
	if (!backend)
		backend = slot_of(service->id, 0);
	if (!backend)
		return 0;
	chosen->address = backend->address;
	chosen->port = backend->port;
	if (sticky) {
		struct sticky value = {.last_used = now, .address = chosen->address, .port = chosen->port};
		bpf_map_update_elem(&affinity, &client, &value, BPF_ANY);
	}
	return 1;
}

/* Rewrites a service's address into a backend's. */
static __always_inline int forward(struct bpf_sock_addr *ctx, __u32 *address, __u16 *port)
{
	struct backend chosen = {};
	struct service *service = find_service(ctx, *address, *port);

	if (!service)
		return PROCEED;
	if (!choose(ctx, service, &chosen)) {
		bpf_set_retval(-ECONNREFUSED);
		return FAIL;
	}
	struct flow flow = {.cookie = bpf_get_socket_cookie(ctx), .address = chosen.address, .port = chosen.port};
	struct backend original = {.address = *address, .port = *port};
	bpf_map_update_elem(&flows, &flow, &original, BPF_ANY);
	*address = chosen.address;
	*port = chosen.port;
	return PROCEED;
}

/* Turns a backend's address back into what the socket asked for. */
static __always_inline void backward(struct bpf_sock_addr *ctx, __u32 *address, __u16 *port)
{
	struct flow flow = {.cookie = bpf_get_socket_cookie(ctx), .address = *address, .port = *port};
	struct backend *original = bpf_map_lookup_elem(&flows, &flow);

	if (original) {
		*address = original->address;
		*port = original->port;
	}
}

static __always_inline int forward4(struct bpf_sock_addr *ctx)
{
	__u32 address = ctx->user_ip4;
	__u16 port = ctx->user_port;
	int verdict = forward(ctx, &address, &port);

	ctx->user_ip4 = address;
	ctx->user_port = port;
	return verdict;
}

static __always_inline int backward4(struct bpf_sock_addr *ctx)
{
	__u32 address = ctx->user_ip4;
	__u16 port = ctx->user_port;

	backward(ctx, &address, &port);
	ctx->user_ip4 = address;
	ctx->user_port = port;
	return PROCEED;
}

/* A dual-stack socket names an IPv4 peer as ::ffff:a.b.c.d. */
static __always_inline int is_mapped(struct bpf_sock_addr *ctx)
{
	return ctx->user_ip6[0] == 0 && ctx->user_ip6[1] == 0 && ctx->user_ip6[2] == bpf_htonl(0xffff);
}

static __always_inline int forward6(struct bpf_sock_addr *ctx)
{
	if (!is_mapped(ctx))
		return PROCEED;
	__u32 address = ctx->user_ip6[3];
	__u16 port = ctx->user_port;
	int verdict = forward(ctx, &address, &port);

	ctx->user_ip6[3] = address;
	ctx->user_port = port;
	return verdict;
}

static __always_inline int backward6(struct bpf_sock_addr *ctx)
{
	if (!is_mapped(ctx))
		return PROCEED;
	__u32 address = ctx->user_ip6[3];
	__u16 port = ctx->user_port;

	backward(ctx, &address, &port);
	ctx->user_ip6[3] = address;
	ctx->user_port = port;
	return PROCEED;
}

#define HOOK(name, section, body)                                                                                      \
	SEC(section)                                                                                                   \
	int name(struct bpf_sock_addr *ctx)                                                                            \
	{                                                                                                              \
		return body(ctx);                                                                                      \
	}

HOOK(connect4, "cgroup/connect4", forward4)
HOOK(sendmsg4, "cgroup/sendmsg4", forward4)
HOOK(recvmsg4, "cgroup/recvmsg4", backward4)
HOOK(getpeername4, "cgroup/getpeername4", backward4)
HOOK(connect6, "cgroup/connect6", forward6)
HOOK(sendmsg6, "cgroup/sendmsg6", forward6)
HOOK(recvmsg6, "cgroup/recvmsg6", backward6)
HOOK(getpeername6, "cgroup/getpeername6", backward6)

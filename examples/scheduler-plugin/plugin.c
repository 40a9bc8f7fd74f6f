/*
 * A scheduler plugin: keeps pods away from nodes that are about to be serviced, and prefers nodes with clean power.
 *
 *   filter  rejects a node with the label example.com/maintenance=soon, unless the pod has example.com/short=true
 *   score   100 for a node whose label example.com/carbon-intensity (grams of CO2 per kWh) is 0, down to 0 for 1000 and more,
 *           and for nodes without it; guestConfig may name another label, for example one with a price
 *
 * It has no library, only the host's functions. Pods and nodes come as protobuf (k8s.io/api/core/v1), of which it reads the
 * labels alone.
 */
#include <stdint.h>

#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

/* Each writes into the buffer if there is room, and answers how many bytes there are. */
IMPORT("k8s.io/scheduler", "currentPod") uint32_t current_pod(uint8_t *to, uint32_t room);
IMPORT("k8s.io/scheduler", "currentNodeName") uint32_t current_node_name(uint8_t *to, uint32_t room);
IMPORT("k8s.io/api", "node") uint32_t node_by_name(const uint8_t *name, uint32_t len, uint8_t *to, uint32_t room);
IMPORT("k8s.io/scheduler", "get_config") uint32_t get_config(uint8_t *to, uint32_t room);
IMPORT("k8s.io/scheduler", "result.status_reason") void status_reason(const char *reason, uint32_t len);

enum { SUCCESS = 0, ERROR = 1, UNSCHEDULABLE_AND_UNRESOLVABLE = 3 };
enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };
/* Numbers of fields: metadata of pods and nodes, labels of metadata, key and value of a label. */
enum { METADATA = 1, LABELS = 11, KEY = 1, VALUE = 2 };

struct text {
    const uint8_t *at;
    uint32_t len;
};

#define TEXT(literal) ((struct text){(const uint8_t *)(literal), sizeof(literal) - 1})

static uint8_t pod_buffer[256 << 10], node_buffer[256 << 10], name_buffer[256], config_buffer[256];

static int equal(struct text a, struct text b)
{
    if (a.len != b.len)
        return 0;
    for (uint32_t i = 0; i < a.len; i++)
        if (a.at[i] != b.at[i])
            return 0;
    return 1;
}

static int varint(struct text *in, uint64_t *out)
{
    *out = 0;
    for (int shift = 0; in->len && shift < 64; shift += 7) {
        uint8_t byte = *in->at++;
        in->len--;
        *out |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return 1;
    }
    return 0;
}

/* Takes the next field off a message. Nothing is left of a message that is damaged. */
static int field(struct text *in, uint32_t *number, struct text *bytes)
{
    uint64_t key, length = 0;
    if (!varint(in, &key))
        return 0;
    *number = (uint32_t)(key >> 3);
    switch (key & 7) {
    case VARINT:
        *bytes = (struct text){in->at, 0};
        return varint(in, &length);
    case FIXED64:
        length = 8;
        break;
    case FIXED32:
        length = 4;
        break;
    case BYTES:
        if (varint(in, &length))
            break;
        return 0;
    default:
        return 0;
    }
    if (length > in->len)
        return 0;
    *bytes = (struct text){in->at, (uint32_t)length};
    in->at += length;
    in->len -= (uint32_t)length;
    return 1;
}

/* The value of a label of a pod or a node; nothing if there is none. */
static struct text label(struct text object, struct text wanted)
{
    uint32_t number, inner, part;
    struct text metadata, entry, bytes;
    while (field(&object, &number, &metadata)) {
        if (number != METADATA)
            continue;
        while (field(&metadata, &inner, &entry)) {
            struct text key = {0, 0}, value = {0, 0};
            if (inner != LABELS)
                continue;
            while (field(&entry, &part, &bytes)) {
                if (part == KEY)
                    key = bytes;
                if (part == VALUE)
                    value = bytes;
            }
            if (equal(key, wanted))
                return value;
        }
    }
    return (struct text){0, 0};
}

static int number(struct text digits, uint32_t *out)
{
    *out = 0;
    for (uint32_t i = 0; i < digits.len; i++) {
        if (digits.at[i] < '0' || digits.at[i] > '9')
            return 0;
        if (*out < 100000000)
            *out = *out * 10 + (digits.at[i] - '0');
    }
    return digits.len > 0;
}

static int read_node(struct text *node)
{
    uint32_t len = current_node_name(name_buffer, sizeof name_buffer);
    if (len > sizeof name_buffer)
        return 0;
    *node = (struct text){node_buffer, node_by_name(name_buffer, len, node_buffer, sizeof node_buffer)};
    return node->len <= sizeof node_buffer;
}

static int fail(int code, struct text reason)
{
    status_reason((const char *)reason.at, reason.len);
    return code;
}

EXPORT("filter") int32_t filter(void)
{
    struct text node, pod = {pod_buffer, current_pod(pod_buffer, sizeof pod_buffer)};
    if (pod.len > sizeof pod_buffer || !read_node(&node))
        return fail(ERROR, TEXT("the pod or the node is larger than the plugin has room for"));
    if (!equal(label(node, TEXT("example.com/maintenance")), TEXT("soon")))
        return SUCCESS;
    if (equal(label(pod, TEXT("example.com/short")), TEXT("true")))
        return SUCCESS;
    return fail(UNSCHEDULABLE_AND_UNRESOLVABLE, TEXT("node(s) are about to be serviced"));
}

EXPORT("score") int64_t score(void)
{
    struct text node, key = {config_buffer, get_config(config_buffer, sizeof config_buffer)};
    uint32_t intensity;
    if (key.len > sizeof config_buffer || !read_node(&node))
        return fail(ERROR, TEXT("guestConfig or the node is larger than the plugin has room for"));
    if (key.len == 0)
        key = TEXT("example.com/carbon-intensity");
    if (!number(label(node, key), &intensity) || intensity > 1000)
        intensity = 1000;
    /* The score stands above the status code. */
    return (int64_t)(100 - intensity / 10) << 32 | SUCCESS;
}

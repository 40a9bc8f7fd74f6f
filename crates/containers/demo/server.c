/* The program of the built-in demo image: answers HTTP with the name of its pod.
 *
 * It stands on system calls alone, so that the image needs no C library, shell or registry. One process, one poll
 * loop. On SIGTERM it goes on answering for a moment while load balancers learn that it leaves, tells each client to
 * close, and then exits with 0.
 *
 * Environment: PORT (8080), VERSION, CONFIG_FILE (a file shown at /config), DRAIN_MS (500).
 */

typedef unsigned long size_t;
typedef long ssize_t;
typedef unsigned long long u64;

#if defined(__x86_64__)
enum { SYS_read = 0, SYS_write = 1, SYS_open = 2, SYS_close = 3, SYS_poll = 7, SYS_sigprocmask = 14, SYS_socket = 41,
       SYS_accept4 = 288, SYS_setsockopt = 54, SYS_bind = 49, SYS_listen = 50, SYS_exit = 231, SYS_uname = 63,
       SYS_signalfd4 = 289, SYS_clock = 228 };
static long call(long n, long a, long b, long c, long d, long e) {
    long r;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return r;
}
__asm__(".globl _start\n_start:\n xor %rbp,%rbp\n mov %rsp,%rdi\n and $-16,%rsp\n call start\n");
#elif defined(__aarch64__)
enum { SYS_read = 63, SYS_write = 64, SYS_openat = 56, SYS_close = 57, SYS_ppoll = 73, SYS_sigprocmask = 135,
       SYS_socket = 198, SYS_accept4 = 242, SYS_setsockopt = 208, SYS_bind = 200, SYS_listen = 201, SYS_exit = 94,
       SYS_uname = 160, SYS_signalfd4 = 74, SYS_clock = 113 };
static long call(long n, long a, long b, long c, long d, long e) {
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}
__asm__(".globl _start\n_start:\n mov x29,#0\n mov x0,sp\n bl start\n");
#else
#error "the demo server knows x86_64 and aarch64"
#endif

/* The compiler may call these by itself. */
void *memset(void *to, int value, size_t count) {
    for (size_t i = 0; i < count; i++) ((volatile char *)to)[i] = (char)value;
    return to;
}
void *memcpy(void *to, const void *from, size_t count) {
    for (size_t i = 0; i < count; i++) ((volatile char *)to)[i] = ((const char *)from)[i];
    return to;
}

struct pollfd { int fd; short events, revents; };
struct timespec { long sec, nsec; };

static int wait_for(struct pollfd *fds, long count, int ms) {
#if defined(__x86_64__)
    return (int)call(SYS_poll, (long)fds, count, ms, 0, 0);
#else
    struct timespec t = { ms / 1000, (ms % 1000) * 1000000L };
    return (int)call(SYS_ppoll, (long)fds, count, ms < 0 ? 0 : (long)&t, 0, 8);
#endif
}
static int open_file(const char *path) {
#if defined(__x86_64__)
    return (int)call(SYS_open, (long)path, 0, 0, 0, 0);
#else
    return (int)call(SYS_openat, -100, (long)path, 0, 0, 0);
#endif
}

enum { MAX_CLIENTS = 512, BUFFER = 8192, BODY = 16384, IDLE_LIMIT_MS = 120000 };

struct client { int fd; int used; long last; char data[BUFFER]; };
static struct client clients[MAX_CLIENTS];
static struct pollfd polled[MAX_CLIENTS + 2];
static int slots[MAX_CLIENTS + 2];
static char host[65], body[BODY], out[BODY + 512], uts[65 * 6];
static const char *version = "", *config_file = "";
static int draining;

static size_t length(const char *s) { size_t n = 0; while (s[n]) n++; return n; }
static int starts(const char *s, const char *head) {
    while (*head) if (*s++ != *head++) return 0;
    return 1;
}
static size_t put(char *to, size_t at, const char *text) {
    size_t n = length(text);
    memcpy(to + at, text, n);
    return at + n;
}
static size_t put_number(char *to, size_t at, u64 value) {
    char digits[24];
    int n = 0;
    do { digits[n++] = (char)('0' + value % 10); value /= 10; } while (value);
    while (n) to[at++] = digits[--n];
    return at;
}
static long number(const char *s, long otherwise) {
    long value = 0;
    if (!*s) return otherwise;
    for (; *s; s++) {
        if (*s < '0' || *s > '9' || value > 1000000) return otherwise;
        value = value * 10 + (*s - '0');
    }
    return value;
}
static long now_ms(void) {
    struct timespec t = { 0, 0 };
    call(SYS_clock, 1, (long)&t, 0, 0, 0);
    return t.sec * 1000 + t.nsec / 1000000;
}
static void say(const char *a, const char *b, const char *c) {
    char line[640];
    size_t at = 0;
    if (length(a) + length(b) + length(c) + 2 > sizeof line) return;
    at = put(line, put(line, put(line, at, a), b), c);
    line[at++] = '\n';
    call(SYS_write, 1, (long)line, (long)at, 0, 0);
}
static void drop(struct client *c) { call(SYS_close, c->fd, 0, 0, 0, 0); c->fd = -1; c->used = 0; }

/* Blocking with a bound: a client that does not read for five seconds is left. */
static int send_all(int fd, const char *data, size_t count) {
    while (count) {
        long n = call(SYS_write, fd, (long)data, (long)count, 0, 0);
        if (n == -11) {
            struct pollfd p = { fd, 4, 0 };
            if (wait_for(&p, 1, 5000) <= 0) return 0;
            continue;
        }
        if (n <= 0) return 0;
        data += n;
        count -= (size_t)n;
    }
    return 1;
}

static int respond(struct client *c, const char *method, const char *path, int keep) {
    const char *status = "200 OK";
    size_t size = 0, at = 0;
    int head_only = starts(method, "HEAD");
    if (starts(path, "/healthz") || starts(path, "/readyz")) {
        if (draining && starts(path, "/readyz")) status = "503 Service Unavailable";
        size = put(body, 0, draining ? "draining\n" : "ok\n");
    } else if (starts(path, "/config")) {
        int fd = *config_file ? open_file(config_file) : -1;
        if (fd < 0) {
            status = "404 Not Found";
            size = put(body, 0, "no configuration file is mounted\n");
        } else {
            long n;
            while (size < BODY && (n = call(SYS_read, fd, (long)(body + size), (long)(BODY - size), 0, 0)) > 0)
                size += (size_t)n;
            call(SYS_close, fd, 0, 0, 0, 0);
        }
    } else {
        size = put(body, put(body, put(body, 0, "Hello from "), host), " (");
        size = put(body, put(body, size, version), ")\n");
    }
    at = put(out, put(out, put(out, 0, "HTTP/1.1 "), status), "\r\nContent-Type: text/plain\r\nContent-Length: ");
    at = put(out, put_number(out, at, size), keep ? "\r\nConnection: keep-alive\r\n\r\n" : "\r\nConnection: close\r\n\r\n");
    if (!head_only) { memcpy(out + at, body, size); at += size; }
    say(method, path, starts(status, "200") ? " 200" : " not ok");
    return send_all(c->fd, out, at) && keep;
}

static int lower(int b) { return b >= 'A' && b <= 'Z' ? b + 32 : b; }
/* The value of a header, or 0. Header names are compared without case. */
static const char *header(const char *head, const char *end, const char *name) {
    for (const char *p = head; p < end; p++) {
        if (*p != '\n') continue;
        const char *n = name, *q = p + 1;
        while (*n && q < end && lower(*q) == *n) { n++; q++; }
        if (*n || q >= end || *q != ':') continue;
        q++;
        while (q < end && *q == ' ') q++;
        return q;
    }
    return 0;
}

/* Answers every complete request in the buffer. Returns 0 when the connection is over. */
static int answer(struct client *c) {
    for (;;) {
        int end = -1;
        for (int i = 0; i + 3 < c->used; i++)
            if (c->data[i] == '\r' && c->data[i + 1] == '\n' && c->data[i + 2] == '\r' && c->data[i + 3] == '\n') {
                end = i + 4;
                break;
            }
        if (end < 0) return c->used < BUFFER;
        const char *stop = c->data + end, *value;
        long content = 0;
        int keep = !draining;
        if ((value = header(c->data, stop, "content-length")))
            for (; *value >= '0' && *value <= '9' && content < BUFFER; value++) content = content * 10 + (*value - '0');
        if (end + content > BUFFER || header(c->data, stop, "transfer-encoding")) return 0;
        if (end + content > c->used) return 1;
        if ((value = header(c->data, stop, "connection")) && lower(*value) == 'c') keep = 0;
        char method[16] = { 0 }, path[256] = { 0 };
        int i = 0, m = 0, p = 0;
        for (; i < end && c->data[i] != ' ' && m < 14; i++) method[m++] = c->data[i];
        method[m] = ' ';
        for (i++; i < end && c->data[i] > ' ' && p < 255; i++) path[p++] = c->data[i];
        while (i < end && c->data[i] != '\r') i++;
        if (i >= 3 && c->data[i - 1] == '0' && c->data[i - 2] == '.')
            keep = keep && value && lower(*value) == 'k';
        if (!respond(c, method, path, keep)) return 0;
        int left = c->used - (int)(end + content);
        for (int k = 0; k < left; k++) c->data[k] = c->data[end + content + k];
        c->used = left;
    }
}

static int listen_on(long port) {
    struct { unsigned short family, port; unsigned flow; unsigned char ip[16]; unsigned scope; } any;
    int one = 1, zero = 0, fd = (int)call(SYS_socket, 10, 1 | 04000 | 02000000, 0, 0, 0);
    memset(&any, 0, sizeof any);
    any.family = 10;
    any.port = (unsigned short)((port >> 8) | (port << 8));
    if (fd >= 0) {
        call(SYS_setsockopt, fd, 41, 26, (long)&zero, sizeof zero);
        call(SYS_setsockopt, fd, 1, 2, (long)&one, sizeof one);
        if (call(SYS_bind, fd, (long)&any, sizeof any, 0, 0) == 0 && call(SYS_listen, fd, 1024, 0, 0, 0) == 0) return fd;
        call(SYS_close, fd, 0, 0, 0, 0);
    }
    /* Without IPv6. */
    struct { unsigned short family, port; unsigned ip; char zero[8]; } four;
    memset(&four, 0, sizeof four);
    four.family = 2;
    four.port = any.port;
    fd = (int)call(SYS_socket, 2, 1 | 04000 | 02000000, 0, 0, 0);
    if (fd < 0) return -1;
    call(SYS_setsockopt, fd, 1, 2, (long)&one, sizeof one);
    if (call(SYS_bind, fd, (long)&four, sizeof four, 0, 0) || call(SYS_listen, fd, 1024, 0, 0, 0)) return -1;
    return fd;
}

static void serve(int listener, int signals, long drain) {
    long leave_at = 0;
    for (;;) {
        long now = now_ms();
        int count = 0, open = 0;
        if (draining && listener >= 0 && now >= leave_at) {
            call(SYS_close, listener, 0, 0, 0, 0);
            listener = -1;
        }
        polled[count] = (struct pollfd){ signals, 1, 0 };
        slots[count++] = -1;
        for (int i = 0; i < MAX_CLIENTS; i++) {
            struct client *c = &clients[i];
            if (c->fd < 0) continue;
            /* Nothing half-read is waited for at the end, and nobody may sit on a slot for ever. */
            if ((listener < 0 && c->used == 0) || now - c->last > IDLE_LIMIT_MS ||
                (draining && now > leave_at + 5000)) { drop(c); continue; }
            polled[count] = (struct pollfd){ c->fd, 1, 0 };
            slots[count++] = i;
            open++;
        }
        if (draining && listener < 0 && open == 0) return;
        if (listener >= 0 && open < MAX_CLIENTS) {
            polled[count] = (struct pollfd){ listener, 1, 0 };
            slots[count++] = -2;
        }
        if (wait_for(polled, count, draining ? 50 : open ? 30000 : -1) <= 0) continue;
        now = now_ms();
        for (int k = 0; k < count; k++) {
            if (!polled[k].revents) continue;
            if (slots[k] == -1) {
                char info[128];
                call(SYS_read, signals, (long)info, sizeof info, 0, 0);
                if (!draining) { draining = 1; leave_at = now + drain; say("stopping", "", ""); }
            } else if (slots[k] == -2) {
                int fd = (int)call(SYS_accept4, listener, 0, 0, 04000 | 02000000, 0);
                for (int i = 0; fd >= 0 && i < MAX_CLIENTS; i++)
                    if (clients[i].fd < 0) { clients[i].fd = fd; clients[i].used = 0; clients[i].last = now; break; }
            } else {
                struct client *c = &clients[slots[k]];
                long n = call(SYS_read, c->fd, (long)(c->data + c->used), BUFFER - c->used, 0, 0);
                if (n == -11) continue;
                if (n <= 0) { drop(c); continue; }
                c->used += (int)n;
                c->last = now;
                if (!answer(c)) drop(c);
            }
        }
    }
}

__attribute__((used)) void start(long *stack) {
    long argc = stack[0], port = 8080, drain = 500;
    char **env = (char **)(stack + argc + 2);
    for (; *env; env++) {
        if (starts(*env, "PORT=")) port = number(*env + 5, port);
        if (starts(*env, "VERSION=")) version = *env + 8;
        if (starts(*env, "CONFIG_FILE=")) config_file = *env + 12;
        if (starts(*env, "DRAIN_MS=")) drain = number(*env + 9, drain);
    }
    if (length(version) > 64) version = "?";
    for (int i = 0; i < MAX_CLIENTS; i++) clients[i].fd = -1;
    call(SYS_uname, (long)uts, 0, 0, 0, 0);
    memcpy(host, uts + 65, 64);
    u64 wanted = (1ull << 14) | (1ull << 1);
    call(SYS_sigprocmask, 0, (long)&wanted, 0, 8, 0);
    int signals = (int)call(SYS_signalfd4, -1, (long)&wanted, 8, 02004000, 0);
    int listener = listen_on(port);
    if (listener < 0 || signals < 0) {
        say("cannot listen on the port", "", "");
        call(SYS_exit, 1, 0, 0, 0, 0);
    }
    say("listening as ", host, "");
    serve(listener, signals, drain);
    say("stopped", "", "");
    call(SYS_exit, 0, 0, 0, 0, 0);
}

/*
 * Loaded into a node before the C library (LD_PRELOAD), so that the harness can break what the node stands on without
 * the node knowing. What is wanted now stands in a file that both sides map:
 *
 *  - CLOCK_REALTIME runs ahead or behind; the monotonic clock stays true, as it does on real machines;
 *  - fsync and fdatasync take longer, or do not return;
 *  - connections to loopback come from the node's own address, by which the links know who dials.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* The order is known to shim.rs. */
struct control {
    int64_t clock_offset_ns;
    int64_t sync_delay_ns;
    int64_t sync_stalled;
    /* Written here: what was broken, so that the harness sees that it is. */
    int64_t clock_reads;
    int64_t syncs;
    int64_t dials;
};

static volatile struct control idle;
static volatile struct control *control = &idle;
static in_addr_t own_address;

static int (*real_clock_gettime)(clockid_t, struct timespec *);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_connect)(int, const struct sockaddr *, socklen_t);

__attribute__((constructor)) static void begin(void) {
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_connect = dlsym(RTLD_NEXT, "connect");
    const char *address = getenv("CHAOS_ADDRESS");
    if (address) own_address = inet_addr(address);
    const char *path = getenv("CHAOS_CONTROL");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) control = mapped;
}

static void count(volatile int64_t *counter) {
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!real_clock_gettime) real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real_clock_gettime(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ns = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + control->clock_offset_ns;
        now->tv_sec = ns / 1000000000;
        now->tv_nsec = ns % 1000000000;
        count(&control->clock_reads);
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec precise;
    int result = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return result;
}

time_t time(time_t *out) {
    struct timespec now = {0, 0};
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

static void slow_down(void) {
    count(&control->syncs);
    int64_t delay = control->sync_delay_ns;
    struct timespec pause = {delay / 1000000000, delay % 1000000000};
    if (delay > 0) nanosleep(&pause, NULL);
    struct timespec moment = {0, 5000000};
    while (control->sync_stalled > 0) nanosleep(&moment, NULL);
}

int fsync(int file) {
    slow_down();
    return real_fsync(file);
}

int fdatasync(int file) {
    slow_down();
    return real_fdatasync(file);
}

int connect(int socket, const struct sockaddr *to, socklen_t length) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)to;
    if (own_address && to->sa_family == AF_INET && ntohl(in->sin_addr.s_addr) >> 24 == 127) {
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = own_address};
        int on = 1;
        setsockopt(socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(socket, (struct sockaddr *)&from, sizeof from) == 0) count(&control->dials);
    }
    return real_connect(socket, to, length);
}

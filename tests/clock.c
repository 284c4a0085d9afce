/* A time of day that is seconds ahead or behind, in every program that loads this before libc (LD_PRELOAD).
 *
 * How many says the file that TEST_CLOCK names, eight bytes, which may change while programs run. Only the time of day
 * is another one: monotonic clocks are true. Waits until a time of day are counted back to the true clock, by which the
 * kernel wakes. (libfaketime 0.9.10 does not do that for C11's cnd_timedwait, by which librdkafka waits, nor, with a
 * true monotonic clock, for those of Java.)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static const time_t none;
static const volatile time_t *ahead_s = &none;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *there = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *ahead_s, PROT_READ, MAP_SHARED, file, 0);
    if (there == MAP_FAILED) {
        perror("TEST_CLOCK names no file that can be read"); /* better no program than one with another clock */
        _exit(1);
    }
    close(file);
    ahead_s = there;
}

/* glibc has an older pthread_cond_timedwait, too, which does not know the conditions of today's programs. */
#define TRUE_ONE(name) \
    static __typeof__(name) *true_one; \
    if (!true_one && !(true_one = dlvsym(RTLD_NEXT, #name, "GLIBC_2.3.2"))) true_one = dlsym(RTLD_NEXT, #name)

int clock_gettime(clockid_t clock, struct timespec *at) {
    TRUE_ONE(clock_gettime);
    int failed = true_one(clock, at);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += *ahead_s;
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    TRUE_ONE(gettimeofday);
    int failed = true_one(at, zone);
    if (!failed) at->tv_sec += *ahead_s;
    return failed;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *at, int base) {
    return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, at) ? base : 0;
}

/* The true deadline. What is far from now is none of a time of day: monotonic clocks begin with the machine. */
static struct timespec until(const struct timespec *deadline) {
    struct timespec now, at = *deadline;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at.tv_sec > now.tv_sec / 2 && at.tv_sec < now.tv_sec * 2) at.tv_sec -= *ahead_s;
    return at;
}

int pthread_cond_timedwait(pthread_cond_t *restrict told, pthread_mutex_t *restrict held, const struct timespec *restrict deadline) {
    TRUE_ONE(pthread_cond_timedwait);
    struct timespec at = until(deadline);
    return true_one(told, held, &at);
}

int cnd_timedwait(cnd_t *restrict told, mtx_t *restrict held, const struct timespec *restrict deadline) {
    TRUE_ONE(cnd_timedwait);
    struct timespec at = until(deadline);
    return true_one(told, held, &at);
}

int sem_timedwait(sem_t *restrict count, const struct timespec *restrict deadline) {
    TRUE_ONE(sem_timedwait);
    struct timespec at = until(deadline);
    return true_one(count, &at);
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict held, const struct timespec *restrict deadline) {
    TRUE_ONE(pthread_mutex_timedlock);
    struct timespec at = until(deadline);
    return true_one(held, &at);
}

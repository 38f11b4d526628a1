/* test_results.c: memory of results: used again when it has been given back, of the size that was asked for. Prints what
 * failed and exits with 1, or prints "ok". */
#include "expect.h"
#include "results.h"

enum { LARGE = 5 << 20, OTHER = LARGE + 8 };

static void test_used_again(void)
{
    fad_results *r = fad_results_create(2);
    char *x = fad_results_take(r, LARGE), *y = fad_results_take(r, LARGE);
    EXPECT(x && y && x != y && (uintptr_t)x % 64 == 0);
    memset(x, 1, LARGE);
    memset(y, 2, LARGE);
    fad_results_give(r, x, LARGE);
    EXPECT(y[0] == 2 && y[LARGE - 1] == 2);
    char *other = fad_results_take(r, OTHER);
    EXPECT(other && other != x);
    char *again = fad_results_take(r, LARGE);
    EXPECT(again == x);
    fad_results_give(r, again, 1); /* the size it is told does not count */
    fad_results_give(r, y, LARGE);
    fad_results_give(r, other, OTHER); /* a third: the first makes room */
    EXPECT(fad_results_take(r, OTHER) == other);
    EXPECT(fad_results_take(r, LARGE) == y);
    fad_results_give(r, other, OTHER);
    fad_results_give(r, y, LARGE);
    fad_results_destroy(r);
}

static void test_resized(void)
{
    fad_results *r = fad_results_create(1);
    char *x = fad_results_take(r, LARGE);
    memset(x, 3, LARGE);
    x = fad_results_resize(r, x, 2 * LARGE);
    EXPECT(x && x[0] == 3 && x[LARGE - 1] == 3);
    memset(x, 4, 2 * LARGE);
    fad_results_give(r, x, 2 * LARGE);
    char *y = fad_results_take(r, LARGE), *z = fad_results_take(r, 2 * LARGE);
    EXPECT(y && y != x && z == x);
    z = fad_results_resize(r, z, 100);
    EXPECT(z && z[99] == 4);
    fad_results_give(r, z, 100); /* too small to be kept */
    fad_results_give(r, y, LARGE);
    fad_results_give(r, NULL, 0);
    char *fresh = fad_results_resize(r, NULL, 100);
    EXPECT(fresh);
    fad_results_give(r, fresh, 100);
    fad_results_destroy(r);
}

static void test_zeros_and_limits(void)
{
    fad_results *r = fad_results_create(SIZE_MAX);
    char *x = fad_results_take(r, LARGE);
    memset(x, 5, LARGE);
    fad_results_give(r, x, LARGE);
    char *y = fad_results_take_zeros(r, LARGE / 8, 8);
    EXPECT(y == x && y[0] == 0 && y[LARGE - 1] == 0);
    EXPECT(!fad_results_take(r, SIZE_MAX) && !fad_results_take(r, (size_t)PTRDIFF_MAX));
    EXPECT(!fad_results_take_zeros(r, SIZE_MAX / 2, 3));
    EXPECT(!fad_results_resize(r, y, SIZE_MAX) && y[0] == 0);
    fad_results_give(r, y, LARGE);
    char *many[FAD_MOST_RESULTS + 3];
    for (int i = 0; i < FAD_MOST_RESULTS + 3; i++)
        many[i] = fad_results_take(r, LARGE);
    for (int i = 0; i < FAD_MOST_RESULTS + 3; i++)
        fad_results_give(r, many[i], LARGE);
    fad_results_destroy(r);
    fad_results_destroy(NULL);
}

static void test_nothing_kept(void)
{
    fad_results *r = fad_results_create(0);
    fad_results_give(r, fad_results_take(r, LARGE), LARGE);
    fad_results_destroy(r);
}

int main(void)
{
    fad_default_loops(&loops);
    test_used_again();
    test_resized();
    test_zeros_and_limits();
    test_nothing_kept();
    return finish();
}

/* Cross sections as XSBench looks them up, event by event: a search in one grid of all nuclides' energies, whose row says where
 * in each nuclide's own table to look; then that for every nuclide of a material. Materials are XSBench's 12 with their
 * probabilities and how many nuclides they have, of 68; the same few are in most of them. */
#include "tier.h"

enum { NUCLIDES = 68, MATERIALS = 12, FUELS = 34 };

struct point {
    double energy, section[5];
};

static const struct {
    double probability;
    uint32_t nuclides;
} materials[MATERIALS] = {
    {.140, 34}, {.052, 5},  {.275, 4},  {.134, 4},  {.154, 27}, {.064, 21},
    {.066, 21}, {.055, 21}, {.008, 21}, {.015, 21}, {.025, 9},  {.012, 9},
};
static uint32_t nuclide[MATERIALS][NUCLIDES];

static struct array grid_array, row_array, point_array;
static double *grid;
static uint32_t (*rows)[NUCLIDES];
static struct point *points; /* `steps` of each nuclide in turn */
static uint32_t steps;

static double unit(void) { return (double)(draw() >> 11) * 0x1p-53; }

/* The fuel has the first half of the nuclides. The others have a selection of the second half, the earlier the likelier. */
static void choose_materials(void)
{
    double weight[MATERIALS];
    for (uint32_t m = 0; m < MATERIALS; m++) {
        char has[NUCLIDES] = {0};
        weight[m] = materials[m].probability;
        for (uint32_t n = 0; n < materials[m].nuclides;) {
            double u = unit();
            uint32_t one = m == 0 ? n : FUELS + (uint32_t)(u * u * (NUCLIDES - FUELS));
            if (!has[one])
                nuclide[m][n++] = one;
            has[one] = 1;
        }
    }
    weigh(weight, MATERIALS);
}

/* Of each nuclide one energy falls at random into each of `steps` equal intervals, so that the common grid is sorted when each
 * interval is. A row holds the last point of each nuclide below its energy. */
static void fill(size_t mib)
{
    size_t a_point = sizeof *grid + sizeof *rows + sizeof *points;
    steps = (uint32_t)((mib << 20) / a_point / NUCLIDES);
    size_t all = (size_t)steps * NUCLIDES;
    choose_materials();
    grid_array = new_array(all * sizeof *grid);
    row_array = new_array(all * sizeof *rows);
    point_array = new_array(all * sizeof *points);
    grid = (double *)grid_array.base;
    rows = (uint32_t (*)[NUCLIDES])row_array.base;
    points = (struct point *)point_array.base;

    uint32_t at[NUCLIDES] = {0}, whose[NUCLIDES];
    for (uint32_t s = 0; s < steps; s++) {
        double *sorted = &grid[(size_t)s * NUCLIDES];
        for (uint32_t n = 0; n < NUCLIDES; n++) {
            struct point *point = &points[(size_t)n * steps + s];
            point->energy = (s + unit()) / steps;
            for (int i = 0; i < 5; i++)
                point->section[i] = unit();
            uint32_t i = n;
            for (; i > 0 && sorted[i - 1] > point->energy; i--) {
                sorted[i] = sorted[i - 1];
                whose[i] = whose[i - 1];
            }
            sorted[i] = point->energy;
            whose[i] = n;
        }
        for (uint32_t i = 0; i < NUCLIDES; i++) {
            at[whose[i]] = s;
            for (uint32_t n = 0; n < NUCLIDES; n++) /* two neighbouring points are read, so not the last */
                rows[(size_t)s * NUCLIDES + i][n] = at[n] + 2 < steps ? at[n] : steps - 2;
        }
    }
    remember_array(&grid_array);
    remember_array(&row_array);
    remember_array(&point_array);
}

static void go(uint64_t accesses)
{
    static double kept;
    for (uint64_t end = made + accesses; made < end;) {
        uint32_t material = pick(draw(), MATERIALS);
        double energy = unit(), total[5] = {0};
        size_t low = 0, high = (size_t)steps * NUCLIDES;
        while (high - low > 1) {
            size_t middle = (low + high) / 2;
            count(piece(&grid_array, &grid[middle]));
            if (grid[middle] <= energy)
                low = middle;
            else
                high = middle;
        }
        for (uint32_t i = 0; i < materials[material].nuclides; i++) {
            uint32_t n = nuclide[material][i];
            const uint32_t *at = &rows[low][n];
            count(piece(&row_array, at));
            const struct point *below_it = &points[(size_t)n * steps + *at], *above_it = below_it + 1;
            count(piece(&point_array, below_it));
            count(piece(&point_array, above_it));
            double share = (energy - below_it->energy) / (above_it->energy - below_it->energy);
            for (int s = 0; s < 5; s++)
                total[s] += below_it->section[s] + share * (above_it->section[s] - below_it->section[s]);
        }
        kept += total[0] + total[1] + total[2] + total[3] + total[4];
    }
    *(volatile double *)&kept = kept; /* so that it is computed */
}

const struct workload xsbench = {"xsbench", "cross sections: a search, then a material's nuclides", fill, go, NULL};

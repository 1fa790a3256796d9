/* A program in C of some size: draws a picture, compresses it as PNG, reads it back, resizes and compares. */
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_RESIZE_IMPLEMENTATION
#define STB_PERLIN_IMPLEMENTATION
#include <stb/stb_image.h>
#include <stb/stb_image_resize.h>
#include <stb/stb_image_write.h>
#include <stb/stb_perlin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
    enum { W = 640, H = 480 };
    unsigned char *pixels = malloc(W * H * 3);
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            for (int c = 0; c < 3; c++)
                pixels[(y * W + x) * 3 + c] =
                    (unsigned char)(128 + 100 * stb_perlin_fbm_noise3(x / 50.0f, y / 50.0f, c * 3.0f, 2, 0.5f, 4));
    if (!stbi_write_png("image.png", W, H, 3, pixels, W * 3))
        return 1;
    int w, h, channels;
    unsigned char *read = stbi_load("image.png", &w, &h, &channels, 3);
    if (read == NULL || w != W || h != H || memcmp(read, pixels, W * H * 3) != 0)
        return 2;
    unsigned char *small = malloc(W * H * 3 / 4);
    if (!stbir_resize_uint8(read, W, H, 0, small, W / 2, H / 2, 0, 3))
        return 3;
    unsigned long sum = 0;
    for (int i = 0; i < W * H * 3 / 4; i++)
        sum = sum * 31 + small[i];
    printf("image %dx%d %lx\n", w, h, sum);
    free(small), stbi_image_free(read), free(pixels);
    return 0;
}

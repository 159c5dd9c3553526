#!/bin/sh
# GEMMA 0.98.5 on its example data: the relationship from the .bed, then all tests.
set -e
gemma -bfile mouse_hs1940 -gk 1 -o k
gemma -bfile mouse_hs1940 -k output/k.cXX.txt -lmm 4 -o cd8
cut -f 2,4,7-15 output/cd8.assoc.txt | xz -9e > mouse_lmm4.txt.xz

#!/bin/sh
# GEMMA 0.98.5 on its example data: two traits (CD8 and MCH) at once, and the interaction with a
# made-up environment, at every 40th variant, on chromosome 17
# every fourth.
set -e
gemma -bfile mouse_hs1940 -gk 1 -o k
awk 'NR % 40 == 0 || ($1 == 17 && NR % 4 == 0) { print $2 }' mouse_hs1940.bim > some.txt
awk '{ print (NR * 7919 % 101) / 101 }' mouse_hs1940.fam > gxe.txt
gemma -bfile mouse_hs1940 -k output/k.cXX.txt -lmm 4 -n 1 6 -snps some.txt -o mv
gemma -bfile mouse_hs1940 -k output/k.cXX.txt -lmm 4 -n 1 -gxe gxe.txt -snps some.txt -o gxe
cut -f 2,8-15 output/mv.assoc.txt > mouse_mv.txt
cut -f 2,8,9,13,14 output/gxe.assoc.txt > mouse_gxe.txt
awk '{ print $11 }' mouse_hs1940.fam > mouse_mch.txt

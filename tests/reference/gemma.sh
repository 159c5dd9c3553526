#!/bin/sh
# Reference values of GEMMA's null model (a kernel model by REML) on its example data, heterogeneous-
# stock mice, trait CD8. GEMMA 0.98.5; Debian packages gemma 0.98.5+dfsg-2 and gemma-doc.
# gemma.json holds what the log says (vg, ve, pve, se) and the model in the basis of the centred
# kernel's eigenvectors: its eigenvalues, U'y and U'1, ten digits each.
set -e
E=/usr/share/doc/gemma/example
gemma -g $E/mouse_hs1940.geno.txt.gz -p $E/mouse_hs1940.pheno.txt -n 1 -gk 1 -o bim
gemma -g $E/mouse_hs1940.geno.txt.gz -p $E/mouse_hs1940.pheno.txt -n 1 -k output/bim.cXX.txt -lmm 1 -o null
grep -E "pve|vg|ve" output/null.log.txt

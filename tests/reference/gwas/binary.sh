#!/bin/sh
# PLINK 2.0: Firth's logistic regression of the mice, cases those with CD8 above 0.9, and a
# made-up covariate. Of the result: every third variant without a missing call, log(OR) and its error.
set -e
{
    printf '#FID\tIID\thigh\tz\n'
    awk '{ high = $6 == "NA" ? "NA" : ($6 > 0.9 ? 2 : 1)
           print $1 "\t" $2 "\t" high "\t" (NR * 7919 % 101) / 101 }' mouse_hs1940.fam
} > high.txt
awk 'NR % 40 == 0 { print $2 }' mouse_hs1940.bim > some.txt
plink2 --bfile mouse_hs1940 --extract some.txt --pheno high.txt --pheno-name high --covar high.txt \
    --covar-name z --glm firth omit-ref --maf 0.01 --geno 0.05 --chr-set 20 --out firth

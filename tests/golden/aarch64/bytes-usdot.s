ldr w25, [x14]
ldr w24, [x14, #64]
ldr w23, [x14, #128]
ldr w21, [x14, #192]
ldr w20, [x14, #256]
ldr w19, [x14, #320]
sub x13, x13, #1
add x15, x22, #64
add x14, x14, #4
dup v9.4s, w25
ldr q12, [x22]
usdot v8.4s, v8.4s, v9.4s, v12.4s
ldr q13, [x22, #16]
usdot v30.4s, v30.4s, v9.4s, v13.4s
ldr q14, [x22, #32]
usdot v29.4s, v29.4s, v9.4s, v14.4s
ldr q15, [x22, #48]
usdot v28.4s, v28.4s, v9.4s, v15.4s
dup v9.4s, w24
usdot v27.4s, v27.4s, v9.4s, v12.4s
usdot v26.4s, v26.4s, v9.4s, v13.4s
usdot v25.4s, v25.4s, v9.4s, v14.4s
usdot v24.4s, v24.4s, v9.4s, v15.4s
dup v9.4s, w23
usdot v23.4s, v23.4s, v9.4s, v12.4s
usdot v22.4s, v22.4s, v9.4s, v13.4s
usdot v21.4s, v21.4s, v9.4s, v14.4s
usdot v20.4s, v20.4s, v9.4s, v15.4s
dup v9.4s, w21
usdot v19.4s, v19.4s, v9.4s, v12.4s
usdot v18.4s, v18.4s, v9.4s, v13.4s
usdot v17.4s, v17.4s, v9.4s, v14.4s
usdot v7.4s, v7.4s, v9.4s, v15.4s
dup v9.4s, w20
usdot v6.4s, v6.4s, v9.4s, v12.4s
usdot v5.4s, v5.4s, v9.4s, v13.4s
usdot v4.4s, v4.4s, v9.4s, v14.4s
usdot v3.4s, v3.4s, v9.4s, v15.4s
dup v9.4s, w19
usdot v2.4s, v2.4s, v9.4s, v12.4s
usdot v1.4s, v1.4s, v9.4s, v13.4s
usdot v0.4s, v0.4s, v9.4s, v14.4s
usdot v31.4s, v31.4s, v9.4s, v15.4s
cbnz x13, label27 ; b label28
